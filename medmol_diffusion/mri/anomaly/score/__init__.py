"""One number for a scan: how little it looks like a healthy one; (setting, exam, maps) -> [B]."""

from medmol_diffusion.mri.anomaly.score.bound import Bound
from medmol_diffusion.mri.anomaly.score.curvature import Curvature
from medmol_diffusion.mri.anomaly.score.deviation import Deviation
from medmol_diffusion.mri.anomaly.score.multi_start import MultiStart
from medmol_diffusion.mri.anomaly.score.top_share import TOP_SHARE, TopShare

__all__ = ["TOP_SHARE", "Bound", "Curvature", "Deviation", "MultiStart", "TopShare"]
