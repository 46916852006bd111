"""The gradient sources that a run file can name."""

from protocols.backpropagation import Backpropagation
from protocols.perturbation import NodePerturbation, WeightPerturbation
from protocols.pulsed_perturbation import PulsedPerturbation

SourceConfig = NodePerturbation | WeightPerturbation | PulsedPerturbation | Backpropagation
