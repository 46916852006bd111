"""Layer ensemble averaging: several copies of a layer on a defective chip, averaged before the non-linearity.

Yousuf et al. 2025, "Layer ensemble averaging for fault tolerance in memristive neural networks", Nat. Commun. 16;
alpha is the number of copies and beta the number of rows that contribute to an output. The steps are placement
(``place``), targets (``encode``), selection (``combine``) and gain (``gain``), each a pure function over tensors.

Cells of a layer are ``[2, copies, rows, cols]`` in S: G+ first, then G-; rows are outputs, columns are inputs.
"""
