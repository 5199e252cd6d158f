"""autoencoder: the scan through the bottleneck of an autoencoder."""

from dataclasses import dataclass

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.method import Restored
from medmol_diffusion.mri.anomaly.setting import Setting
from medmol_diffusion.mri.first_stages.kl_stage import KLStage


@dataclass(frozen=True)
class AutoencoderRestore:
    """Through the mean of q(u | v) and back (Baur et al. 2021): the residual of a first stage alone, without diffusion.

    The autoencoder is the setting's, trained on healthy scans of the model's voxel size, or that of the first stage.
    """

    def __call__(self, setting: Setting, exam: Exam) -> Restored:
        """Raises InputError where there is none, or it was trained on voxels of another size."""
        found, stage = setting.autoencoder, setting.model.first_stage
        if found is None:
            if not isinstance(stage, KLStage):
                raise InputError(
                    "the method needs an autoencoder: take a model of latents, or give one of healthy scans "
                    "(--autoencoder, AnomalyDetector(model, autoencoder=...))"
                )
            found = stage.autoencoder
        if found.grid.spacing != setting.model.grid.spacing:
            raise InputError(
                f"an autoencoder of {found.grid.spacing:g} mm voxels does not fit a model of "
                f"{setting.model.grid.spacing:g} mm: train one with the same spacing"
            )
        tile = stage.tile if isinstance(stage, KLStage) else None
        return Restored(found.to(exam.data.device).restore(exam.data, tile))
