"""The probabilistic core: it knows tensors and Gaussian noise, and nothing of voxels or atoms."""

from medmol_diffusion.core.analytic import GaussianDenoiser, MixtureDenoiser, gaussian_flow
from medmol_diffusion.core.closed_form import VE, Karras, RectifiedFlow, Sigmoid, SubVP
from medmol_diffusion.core.denoiser import (
    Denoiser,
    Eps,
    Logits,
    NetworkDenoiser,
    Parameterization,
    PerBlock,
    Preconditioned,
    Prediction,
    V,
    X,
)
from medmol_diffusion.core.elbo import Elbo, continuous_integrand, diffuse, elbo, prior_kl, transition_kl
from medmol_diffusion.core.frame import FlowFrame, Frame, FramedDenoiser, SubVPFrame, VEFrame, VPFrame
from medmol_diffusion.core.learned_schedule import LearnedSchedule, variance_loss
from medmol_diffusion.core.noise import Randomness, Streams
from medmol_diffusion.core.objective import Levels, NormalGamma, UniformTime, denoising_loss, schedule_loss
from medmol_diffusion.core.sampler import grid, sample
from medmol_diffusion.core.schedule import (
    Cosine,
    DDPMLinear,
    LinearGamma,
    Polynomial,
    ScaledLinear,
    Schedule,
    alpha,
    sigma,
)
from medmol_diffusion.core.space import Dense, Masked, Product, Space, ZeroCentre
from medmol_diffusion.core.stepper import DDIM, STEPPERS, Ancestral, DPMSolver2M, Heun, Stepper, stepper_named
from medmol_diffusion.core.weighting import WEIGHTINGS, Native, Simple, Weighting

__all__ = [
    "DDIM",
    "STEPPERS",
    "VE",
    "WEIGHTINGS",
    "Ancestral",
    "Cosine",
    "DDPMLinear",
    "DPMSolver2M",
    "Denoiser",
    "Dense",
    "Elbo",
    "Eps",
    "FlowFrame",
    "Frame",
    "FramedDenoiser",
    "GaussianDenoiser",
    "Heun",
    "Karras",
    "LearnedSchedule",
    "Levels",
    "LinearGamma",
    "Logits",
    "Masked",
    "MixtureDenoiser",
    "Native",
    "NetworkDenoiser",
    "NormalGamma",
    "Parameterization",
    "PerBlock",
    "Polynomial",
    "Preconditioned",
    "Prediction",
    "Product",
    "Randomness",
    "RectifiedFlow",
    "ScaledLinear",
    "Schedule",
    "Sigmoid",
    "Simple",
    "Space",
    "Stepper",
    "Streams",
    "SubVP",
    "SubVPFrame",
    "UniformTime",
    "V",
    "VEFrame",
    "VPFrame",
    "Weighting",
    "X",
    "ZeroCentre",
    "alpha",
    "continuous_integrand",
    "denoising_loss",
    "diffuse",
    "elbo",
    "gaussian_flow",
    "grid",
    "prior_kl",
    "sample",
    "schedule_loss",
    "sigma",
    "stepper_named",
    "transition_kl",
    "variance_loss",
]
