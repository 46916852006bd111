"""What pulsed analog training computes on the host: firing probabilities, pulse trains and their coincidences."""
