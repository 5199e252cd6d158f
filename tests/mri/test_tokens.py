"""Sequences of embeddings beside scans: read, padded, learned from, asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medmol_diffusion.cli import main
from medmol_diffusion.core import Streams
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import HaarStage, UNet3D, Volume, VolumeData, VolumeDiffusion
from medmol_diffusion.mri.tokens import find_tokens, padded, read_tokens
from medmol_diffusion.training.fit import fit
from tests.conftest import TRAINER

DIM = 6


def sequence(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(length, DIM)).astype(np.float32)


def test_sequences_are_padded_and_those_that_miss_are_masked() -> None:
    tokens, mask = padded([sequence(2), None, sequence(4, 1)])
    assert tokens.shape == (3, 4, DIM)
    assert mask.sum(1).tolist() == [2, 0, 4]
    np.testing.assert_array_equal(tokens[0, :2].numpy(), sequence(2))


def test_faults_of_the_files_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.zeros(3))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "nan.npy", np.full((2, 2), np.nan))
    for name, words in (("flat", r"\(L, D\)"), ("object", "cannot be read"), ("nan", "not finite"), ("no", "cannot")):
        with pytest.raises(InputError, match=words):
            read_tokens(tmp_path / f"{name}.npy")
    np.save(tmp_path / "a.npy", np.zeros((1, 2)))
    np.save(tmp_path / "b.npy", np.zeros((1, 3)))
    with pytest.raises(InputError, match=r"sizes \[2, 3\]"):
        find_tokens(tmp_path, ["a.nii.gz", "x/b.nii"])
    with pytest.raises(InputError, match="the first would be c"):
        find_tokens(tmp_path, ["c.nii.gz"])


def model_of(token_dim: int = DIM) -> VolumeDiffusion:
    network = UNet3D(16, 16, [8], blocks=1, token_dim=token_dim)
    model = VolumeDiffusion([8, 8, 8], HaarStage(1), network=network, condition_dropout=0.0)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = 0.7 * torch.randn(parameter.shape, generator=generator)
    model.first_stage.spectrum.std.fill_(0.2)  # type: ignore[attr-defined]
    return model.eval()


def test_scans_follow_their_own_sequence_whatever_stands_beside_it() -> None:
    model, own = model_of(), sequence(3)
    plain = model.sample(2, steps=3)
    told = model.sample(2, steps=3, tokens=[own, None])
    beside = model.sample(2, steps=3, tokens=[own, sequence(9, 4)])
    both = model.sample(2, steps=3, tokens=own)
    assert np.abs(told[0].data - plain[0].data).max() > 1e-3
    np.testing.assert_allclose(told[1].data, plain[1].data, atol=1e-5)
    np.testing.assert_allclose(told[0].data, beside[0].data, atol=1e-5)
    np.testing.assert_allclose(told[0].data, both[0].data, atol=1e-5)
    guided = model.sample(1, steps=3, tokens=own, guidance=3.0)
    assert np.abs(guided[0].data - told[0].data).max() > 1e-3


def test_what_cannot_be_read_is_said() -> None:
    with pytest.raises(InputError, match="size 6 are given to a model of size 4"):
        model_of(4).sample(1, steps=1, tokens=sequence(2))
    with pytest.raises(InputError, match=r"train one with network\.token_dim"):
        VolumeDiffusion([8, 8, 8], HaarStage(1)).sample(1, steps=1, tokens=sequence(2))
    with pytest.raises(InputError, match="1 sequences for 2 scans"):
        model_of().sample(2, steps=1, tokens=[sequence(2)])


CONFIG = """
model:
  model:
    class_path: medmol_diffusion.mri.VolumeDiffusion
    init_args:
      shape: [8, 8, 8]
      condition_dropout: 0.5
      first_stage: {class_path: medmol_diffusion.mri.HaarStage, init_args: {levels: 1}}
      network:
        class_path: medmol_diffusion.mri.UNet3D
        init_args: {channels_in: 16, channels_out: 16, channels: [8], blocks: 1, token_dim: 6}
data:
  class_path: medmol_diffusion.mri.VolumeData
  init_args:
    path: PATH
    shape: [8, 8, 8]
    tokens: TOKENS
    validation: 0.25
    test: 0.25
    batch_size: 2
"""


def test_a_run_learns_from_sequences_and_is_asked_by_file(tmp_path: Path) -> None:
    for i in range(8):
        data = np.random.default_rng(i).normal(size=(8, 8, 8)).astype(np.float32)
        Volume(data, np.eye(4)).write(tmp_path / "scans" / f"sub-{i}_T1w.nii.gz")
    (tmp_path / "reports").mkdir()
    for i in range(7):  # one has none
        np.save(tmp_path / "reports" / f"sub-{i}_T1w.npy", sequence(1 + i, i))
    config = tmp_path / "config.yaml"
    paths = CONFIG.replace("PATH", str(tmp_path / "scans")).replace("TOKENS", str(tmp_path / "reports"))
    config.write_text(TRAINER + paths)
    data = VolumeData(str(tmp_path / "scans"), [8, 8, 8], tokens=str(tmp_path / "reports"), validation=0.0, test=0.0)
    data.setup()
    (batch,) = data.evaluation_dataloader("train", np.arange(8))
    assert batch.token_mask is not None
    assert batch.token_mask.sum(1).tolist() == [1, 2, 3, 4, 5, 6, 7, 0]
    shared = VolumeDiffusion([8, 8, 8], HaarStage(1), network=UNet3D(16, 16, [8], 1, token_dim=DIM))
    known = shared.training_example(batch, Streams(0, batch.index))[2]
    assert known.token_mask is not None
    assert 0 < known.token_mask.any(1).sum() < 8  # some are left out
    run = fit(["--config", str(config), "--trainer.default_root_dir", str(tmp_path / "run")])
    ask = ["--tokens", str(tmp_path / "reports" / "sub-3_T1w.npy"), "--guidance", "2"]
    main(["sample", str(run), "-n", "1", "--steps", "2", *ask, "-o", str(tmp_path / "made")])
    said = json.loads((tmp_path / "made" / "sample-0000.json").read_text())
    assert (said["Tokens"], said["Guidance"]) == ("sub-3_T1w.npy", 2.0)
    main(["validate", str(run), "--draws", "1", "--conditional", "--json", str(tmp_path / "bound.json")])
    assert np.isfinite(json.loads((tmp_path / "bound.json").read_text())["terms"]["total"][0])
