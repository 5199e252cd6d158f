"""The probabilistic core: it knows tensors and Gaussian noise, and nothing of voxels or atoms."""

from medmol_diffusion.core.analytic import (
    GaussianDenoiser,
    MixtureDenoiser,
    gaussian_flow,
)
from medmol_diffusion.core.closed_form import (
    VE,
    Karras,
    RectifiedFlow,
    Sigmoid,
    SubVP,
)
from medmol_diffusion.core.corrector import (
    Langevin,
)
from medmol_diffusion.core.denoiser import (
    Denoiser,
    NetworkDenoiser,
    Prediction,
    check_zero_snr,
)
from medmol_diffusion.core.distillation import (
    ddim_target,
    ddim_weights,
    distillation_loss,
    draw_transition,
)
from medmol_diffusion.core.edit import (
    edit,
)
from medmol_diffusion.core.elbo import (
    Elbo,
    continuous_integrand,
    diffuse,
    elbo,
    prior_kl,
    transition_kl,
)
from medmol_diffusion.core.frame import (
    FlowFrame,
    Frame,
    FramedDenoiser,
    SubVPFrame,
    VEFrame,
    VPFrame,
)
from medmol_diffusion.core.given import (
    Given,
)
from medmol_diffusion.core.guidance import (
    Autoguidance,
    Classifier,
    ClassifierFree,
)
from medmol_diffusion.core.inpaint import (
    Replacement,
    inpaint,
    put_back,
    renoise,
)
from medmol_diffusion.core.iwae import (
    iwae,
)
from medmol_diffusion.core.learned_schedule import (
    LearnedSchedule,
    variance_loss,
)
from medmol_diffusion.core.multistep import (
    PLMS,
    DPMSolver2M,
    DPMSolver3M,
    UniPC,
)
from medmol_diffusion.core.noise import (
    Randomness,
    Streams,
)
from medmol_diffusion.core.objective import (
    Levels,
    NormalGamma,
    UniformTime,
    denoising_loss,
    hybrid_loss,
    schedule_loss,
)
from medmol_diffusion.core.ode import (
    DormandPrince,
    FixedGrid,
    Solver,
)
from medmol_diffusion.core.parameterization import (
    Eps,
    FlowVelocity,
    Logits,
    Parameterization,
    PerBlock,
    Preconditioned,
    Score,
    V,
    X,
)
from medmol_diffusion.core.probability_flow import (
    flow,
    probability_flow_nll,
)
from medmol_diffusion.core.sampler import (
    GRIDS,
    grid,
    sample,
)
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
from medmol_diffusion.core.space import (
    Anchored,
    Dense,
    Masked,
    Product,
    Space,
    ZeroCentre,
)
from medmol_diffusion.core.stepper import (
    DDIM,
    Ancestral,
    Euler,
    Heun,
    Past,
    Stepper,
)
from medmol_diffusion.core.steppers import (
    STEPPERS,
    stepper_named,
)
from medmol_diffusion.core.tempered import (
    Tempered,
)
from medmol_diffusion.core.variance import (
    VarianceDenoiser,
)
from medmol_diffusion.core.weighting import (
    EDM,
    P2,
    VLB,
    WEIGHTINGS,
    LearnedUncertainty,
    MinSNR,
    Native,
    SigmoidWeighting,
    Simple,
    Weighting,
)

__all__ = [
    "DDIM",
    "EDM",
    "GRIDS",
    "P2",
    "PLMS",
    "STEPPERS",
    "VE",
    "VLB",
    "WEIGHTINGS",
    "Ancestral",
    "Anchored",
    "Autoguidance",
    "Classifier",
    "ClassifierFree",
    "Cosine",
    "DDPMLinear",
    "DPMSolver2M",
    "DPMSolver3M",
    "Denoiser",
    "Dense",
    "DormandPrince",
    "Elbo",
    "Eps",
    "Euler",
    "FixedGrid",
    "FlowFrame",
    "FlowVelocity",
    "Frame",
    "FramedDenoiser",
    "GaussianDenoiser",
    "Given",
    "Heun",
    "Karras",
    "Langevin",
    "LearnedSchedule",
    "LearnedUncertainty",
    "Levels",
    "LinearGamma",
    "Logits",
    "Masked",
    "MinSNR",
    "MixtureDenoiser",
    "Native",
    "NetworkDenoiser",
    "NormalGamma",
    "Parameterization",
    "Past",
    "PerBlock",
    "Polynomial",
    "Preconditioned",
    "Prediction",
    "Product",
    "Randomness",
    "RectifiedFlow",
    "Replacement",
    "ScaledLinear",
    "Schedule",
    "Score",
    "Sigmoid",
    "SigmoidWeighting",
    "Simple",
    "Solver",
    "Space",
    "Stepper",
    "Streams",
    "SubVP",
    "SubVPFrame",
    "Tempered",
    "UniPC",
    "UniformTime",
    "V",
    "VEFrame",
    "VPFrame",
    "VarianceDenoiser",
    "Weighting",
    "X",
    "ZeroCentre",
    "alpha",
    "check_zero_snr",
    "continuous_integrand",
    "ddim_target",
    "ddim_weights",
    "denoising_loss",
    "diffuse",
    "distillation_loss",
    "draw_transition",
    "edit",
    "elbo",
    "flow",
    "gaussian_flow",
    "grid",
    "hybrid_loss",
    "inpaint",
    "iwae",
    "prior_kl",
    "probability_flow_nll",
    "put_back",
    "renoise",
    "sample",
    "schedule_loss",
    "sigma",
    "stepper_named",
    "transition_kl",
    "variance_loss",
]
