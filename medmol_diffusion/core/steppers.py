"""The steppers by name."""

from medmol_diffusion.core.corrector import Langevin
from medmol_diffusion.core.multistep import PLMS, DPMSolver2M, DPMSolver3M, UniPC
from medmol_diffusion.core.stepper import DDIM, Ancestral, Euler, Heun, Stepper

STEPPERS: dict[str, type[Stepper]] = {
    "ancestral": Ancestral,
    "ddim": DDIM,
    "euler": Euler,
    "heun": Heun,
    "dpm++2m": DPMSolver2M,
    "dpm++3m-sde": DPMSolver3M,
    "unipc": UniPC,
    "plms": PLMS,
    "langevin": Langevin,
}


def stepper_named(name: str) -> Stepper:
    """The stepper of that name in STEPPERS, with its defaults.

    Raises:
        ValueError: there is none.
    """
    if name not in STEPPERS:
        raise ValueError(f"unknown sampler '{name}': choose one of {', '.join(STEPPERS)}")
    return STEPPERS[name]()
