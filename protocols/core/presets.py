"""Well-known methods as settings of the one loop of multiplexed gradient descent.

Reference: McCaughan et al. 2023, APL Machine Learning 1, 026118 (finite difference, coordinate descent and SPSA are
special cases); Spall 1992, IEEE Transactions on Automatic Control 37 (SPSA).
"""

from __future__ import annotations

from protocols.core.codes import SequentialCode, WalshCode
from protocols.core.descent import Descent


def finite_difference(count: int, *, eta: float, norm: float = 0.01) -> Descent:
    """Gradient descent along forward differences: theta -= eta (C(theta + norm e_i) - C(theta)) / norm for all i.

    Args:
        count: parameters; an update takes as many slots, all on one sample.
        eta: learning rate.
        norm: the difference.
    """
    return Descent(code=SequentialCode(), norm=norm, eta=eta, tau_x=count, tau_theta=count)


def coordinate_descent(*, eta: float, norm: float = 0.01) -> Descent:
    """One parameter at a time, each moved along its forward difference as soon as it is known."""
    return Descent(code=SequentialCode(), norm=norm, eta=eta)


def spsa(count: int, *, gain: float, c: float = 0.01, two_sided: bool = True) -> Descent:
    """Simultaneous perturbation: theta_i -= gain (C(theta + c s) - C(theta - c s)) / (2 c s_i), s of random signs.

    Args:
        count: parameters.
        gain: Spall's a_k, constant.
        c: Spall's c_k, constant: the perturbation of each parameter.
        two_sided: measure plus and minus; else plus and none.
    """
    baseline = "two_sided" if two_sided else "fresh"
    return Descent(norm=c * count**0.5, eta=gain * count, baseline=baseline)


def exact_gradient(count: int, *, eta: float, norm: float = 0.01) -> Descent:
    """Gradient descent by Walsh codes without a baseline, exact up to the cube of the perturbation.

    Args:
        count: parameters; an update takes two periods of the code, so that curvature cancels.
        eta: learning rate.
        norm: length of the perturbation.
    """
    code = WalshCode()
    slots = 2 * code.period(count)
    return Descent(code=code, norm=norm, eta=eta, baseline="none", tau_x=slots, tau_theta=slots, normalised=True)
