"""Measures that need trained weights: DINO structure distance, LPIPS, ArcFace, likeness to photographs, CMMD and KID.

Each is loaded where its weights are on this machine and left out, with one sentence that says so, where they are not;
nothing is downloaded unasked. Each takes moments as the other measures do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from capture.errors import UserError
from realmaster.measure.moment import REFERENCE, RENDER, Moment

DINO = "facebook/dino-vitb8"
CLIP = "openai/clip-vit-large-patch14-336"

IMAGENET = (torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))
CLIP_COLORS = (torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711]))
"""Mean and deviation of the colours that a model was trained on."""

MOST = 2000
"""Frames of a clip whose features are compared as distributions, from its first on."""


class NotHere(UserError):
    """Weights are not on this machine; the message is the sentence that says what is not scored and why."""

    def __init__(self, measure: str, why: str) -> None:
        super().__init__(f"{measure} is not scored: {why}.")
        self.measure = measure


class DinoStructure:
    """DINO structure distance to the render (Tumanyan et al., Splicing ViT Features, CVPR 2022): mean square difference
    of the self-similarities (cosine) of the keys of the last layer, for ViT-B/8 layer 11, heads together, at 224
    pixels; times 1000.

    model: a folder in transformers' layout, or a hub id whose safetensors are in the local cache. Raises NotHere.
    """

    def __init__(self, model: str = DINO) -> None:
        self._model = _from_transformers(
            "ViTModel", model, "DINO structure distance", "--dino", add_pooling_layer=False
        )
        self._keys: list[Tensor] = []
        layers = [module for name, module in self._model.named_modules() if name.endswith(("k_proj", "attention.key"))]
        layers[-1].register_forward_hook(lambda module, inputs, output: self._keys.append(output))
        self._side = int(self._model.config.image_size)

    def add(self, moment: Moment) -> dict[str, Tensor]:
        """dino_structure [P], 0 for the render."""
        self._keys.clear()
        self._model(_prepared(moment.pictures, self._side, IMAGENET), interpolate_pos_encoding=True)
        keys = F.normalize(self._keys[0], dim=-1)  # [P, tokens, features]
        likeness = keys @ keys.transpose(1, 2)
        render = likeness[moment.names.index(RENDER)]
        return {"dino_structure": 1000 * (likeness - render).square().mean((1, 2))}

    def summary(self, names: Sequence[str]) -> dict[str, list[float]]:
        return {}


class Lpips:
    """LPIPS (Zhang et al., CVPR 2018) against the reference, AlexNet, by torchmetrics. Raises NotHere."""

    def __init__(self) -> None:
        weights = list((Path(torch.hub.get_dir()) / "checkpoints").glob("alexnet-owt-*.pth"))
        if find_spec("torchvision") is None or not weights:
            raise NotHere("LPIPS", "it needs torchvision with its AlexNet weights, which are not on this machine")
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        self._metric: Any = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)

    def add(self, moment: Moment) -> dict[str, Tensor]:
        """lpips [P], nan for the reference; nothing without one."""
        if REFERENCE not in moment.names:
            return {}
        own = moment.names.index(REFERENCE)
        truth = moment.pictures[own:]
        values = [self._metric(picture[None], truth).reshape(1) for picture in moment.pictures[:own]]
        return {"lpips": torch.cat([*values, torch.full((1,), torch.nan)])}

    def summary(self, names: Sequence[str]) -> dict[str, list[float]]:
        return {}


Faces = Callable[[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]
"""uint8 [H, W, 3] RGB -> of each face its box (x0, y0, x1, y1) and its embedding."""


class FaceIdentity:
    """Cosine of the embeddings of faces (ArcFace) in the lift and in the render, matched by where they are."""

    OVERLAP = 0.3
    """Least intersection over union of two boxes of one face."""

    def __init__(self, faces: Faces | None = None) -> None:
        self._faces = faces if faces is not None else arcface()

    def add(self, moment: Moment) -> dict[str, Tensor]:
        """faces [P]: mean over the render's faces that a picture shows; nothing where it shows none."""
        pictures = (moment.pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()
        seen = [self._faces(picture) for picture in pictures]
        values = [self._likeness(seen[moment.names.index(RENDER)], other) for other in seen]
        return {"faces": torch.tensor(values)} if np.isfinite(values).any() else {}

    def _likeness(self, ours: list[Any], theirs: list[Any]) -> float:
        cosines = []
        for box, embedding in ours:
            best = max(theirs, key=lambda face: _overlap(box, face[0]), default=None)
            if best is not None and _overlap(box, best[0]) >= self.OVERLAP:
                a, b = embedding, best[1]
                cosines.append(float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-9)))
        return float(np.mean(cosines)) if cosines else float("nan")

    def summary(self, names: Sequence[str]) -> dict[str, list[float]]:
        return {}


class PhotoOdds:
    """Log odds that CLIP gives a photograph against a video game (Radford et al. 2021, "Learning Transferable Visual
    Models From Natural Language Supervision", zero-shot classification), of each picture.

    model: as for `DinoStructure`, with its text encoder and tokenizer. Raises NotHere.
    """

    PHOTO, GAME = "a photograph", "a screenshot of a video game"

    def __init__(self, model: str = CLIP) -> None:
        self._model = _from_transformers("CLIPModel", model, "Likeness to photographs", "--clip")
        tokenizer = _from_transformers("CLIPTokenizerFast", model, "Likeness to photographs", "--clip")
        with torch.inference_mode():
            words = tokenizer([self.PHOTO, self.GAME], padding=True, return_tensors="pt")
            photo, game = F.normalize(_features(self._model.get_text_features(**words)), dim=-1)
        self._axis = self._model.logit_scale.detach().exp() * (photo - game)
        self._side = int(self._model.config.vision_config.image_size)

    def add(self, moment: Moment) -> dict[str, Tensor]:
        """photo_odds [P]."""
        seen = self._model.get_image_features(_prepared(moment.pictures, self._side, CLIP_COLORS))
        return {"photo_odds": F.normalize(_features(seen), dim=-1) @ self._axis}

    def summary(self, names: Sequence[str]) -> dict[str, list[float]]:
        return {}


class Cmmd:
    """CLIP maximum mean discrepancy between a video's frames and the reference's (Jayasumana et al., CVPR 2024):
    Gaussian kernel of width 10 on unit CLIP embeddings, times 1000. The frames need not correspond.

    model: as for `DinoStructure`. Raises NotHere.
    """

    WIDTH = 10.0

    def __init__(self, model: str = CLIP) -> None:
        self._model = _from_transformers("CLIPVisionModelWithProjection", model, "CMMD", "--clip")
        self._side = int(self._model.config.image_size)
        self._features: list[Tensor] = []

    def add(self, moment: Moment) -> dict[str, Tensor]:
        if REFERENCE in moment.names and len(self._features) < MOST:
            seen = self._model(_prepared(moment.pictures, self._side, CLIP_COLORS)).image_embeds
            self._features.append(F.normalize(seen, dim=-1))
        return {}

    def summary(self, names: Sequence[str]) -> dict[str, list[float]]:
        """cmmd of each video; nan for the reference."""
        if len(self._features) < 2:
            return {}
        features = torch.stack(self._features, dim=1)  # [P, frames, features]
        truth = features[names.index(REFERENCE)]
        return {"cmmd": [float("nan") if n == REFERENCE else self._distance(f, truth)
                         for n, f in zip(names, features, strict=True)]}  # fmt: skip

    def _distance(self, a: Tensor, b: Tensor) -> float:
        def kernel(x: Tensor, y: Tensor) -> Tensor:
            return torch.exp(-torch.cdist(x, y).square() / (2 * self.WIDTH**2)).mean()

        return float(1000 * (kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)))


class Kid:
    """Kernel Inception distance of a video's frames to the reference's (Bińkowski et al., ICLR 2018), by torchmetrics.

    feature: the network that gives features [N, D] of uint8 pictures [N, 3, H, W]; by default torch-fidelity's
    Inception. Raises NotHere.
    """

    def __init__(self, feature: Any = 2048) -> None:
        weights = list((Path(torch.hub.get_dir()) / "checkpoints").glob("weights-inception-2015-12-05-*.pth"))
        if feature == 2048 and (find_spec("torch_fidelity") is None or not weights):
            raise NotHere("KID", "it needs torch-fidelity with its Inception weights, which are not on this machine")
        self._feature = feature
        self._pictures: dict[str, list[Tensor]] = {}

    def add(self, moment: Moment) -> dict[str, Tensor]:
        if REFERENCE in moment.names:
            for name, picture in zip(moment.names, moment.pictures, strict=True):
                kept = self._pictures.setdefault(name, [])
                if len(kept) < MOST:
                    small = F.interpolate(picture[None], (299, 299), mode="bilinear", antialias=True)
                    kept.append((small * 255).round().clamp(0, 255).byte())
        return {}

    def summary(self, names: Sequence[str]) -> dict[str, list[float]]:
        """kid of each video; nan for the reference."""
        from torchmetrics.image.kid import KernelInceptionDistance

        count = len(self._pictures.get(REFERENCE, ()))
        if count < 4:
            return {}
        values = []
        for name in names:
            if name == REFERENCE:
                values.append(float("nan"))
                continue
            metric: Any = KernelInceptionDistance(feature=self._feature, subset_size=max(2, count // 2))
            with torch.random.fork_rng():
                torch.manual_seed(0)  # it draws subsets
                metric.update(torch.cat(self._pictures[REFERENCE]), real=True)
                metric.update(torch.cat(self._pictures[name]), real=False)
                values.append(float(metric.compute()[0]))
        return {"kid": values}


def learned_measures(
    dino: str | None = None, clip: str | None = None, with_reference: bool = True
) -> tuple[list[Any], list[NotHere]]:
    """The measures whose weights are here, and for each whose are not, why.

    dino, clip: where these two lie, a folder or hub id that is to be taken; NotHere is raised when it is not there.
    """
    wanted: list[tuple[Callable[[], Any], bool]] = [
        (lambda: DinoStructure(dino or DINO), dino is not None), (FaceIdentity, False),
        (lambda: PhotoOdds(clip or CLIP), False),
    ]  # fmt: skip
    if with_reference:
        wanted += [(Lpips, False), (lambda: Cmmd(clip or CLIP), clip is not None), (Kid, False)]
    measures: list[Any] = []
    absent: list[NotHere] = []
    for make, demanded in wanted:
        try:
            measures.append(make())
        except NotHere as reason:
            if demanded:
                raise
            absent.append(reason)
    return measures, absent


def _from_transformers(cls: str, model: str, what: str, option: str, **options: Any) -> Any:
    folder = Path(model).expanduser()
    absent = NotHere(what, f"the weights {model} are not on this machine as safetensors; name a folder with {option}")
    if not folder.is_dir() and not (_hub_cache() / f"models--{model.replace('/', '--')}").is_dir():
        raise absent
    import transformers

    try:
        source = str(folder) if folder.is_dir() else model
        if "Tokenizer" in cls:
            return getattr(transformers, cls).from_pretrained(source, local_files_only=True)
        loaded, notes = getattr(transformers, cls).from_pretrained(
            source, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
        )
    except (OSError, ValueError, KeyError):
        raise absent from None
    if notes["missing_keys"]:  # which would be random: a part of the model only
        raise absent
    return loaded.eval()


def _features(output: Any) -> Tensor:
    """The embeddings `[N, D]` of CLIP's towers, which transformers gives bare or, of late, in an output."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _hub_cache() -> Path:
    """Where the Hugging Face hub keeps what it has fetched."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))


def arcface(folder: Path | None = None) -> Faces:
    """Faces by insightface: the detector (SCRFD) and the embedder (ArcFace) among the ONNX files of a folder, by
    default its buffalo_l in the home folder. Raises NotHere."""
    models = folder or Path.home() / ".insightface" / "models" / "buffalo_l"
    if find_spec("insightface") is None or find_spec("onnxruntime") is None:
        raise NotHere("ArcFace", "it needs insightface: `pip install 'realmaster[faces]'` brings it")
    if not models.is_dir():
        raise NotHere("ArcFace", f"it needs insightface's buffalo_l models, and {models} is not on this machine")
    from insightface.app.common import Face
    from insightface.model_zoo import get_model

    parts: dict[str, Any] = {}
    for file in sorted(models.glob("*.onnx")):
        try:
            part = get_model(str(file))
        except Exception as error:  # of onnxruntime's own kinds
            raise NotHere("ArcFace", f"{file} does not load ({str(error).splitlines()[0]})") from None
        if part is not None:
            parts.setdefault(part.taskname, part)
    if not {"detection", "recognition"} <= parts.keys():
        raise NotHere("ArcFace", f"{models} needs the ONNX files of a face detector and of ArcFace")
    device = 0 if torch.cuda.is_available() else -1
    detector, embedder = parts["detection"], parts["recognition"]
    detector.prepare(device, input_size=(640, 640))
    embedder.prepare(device)

    def faces(picture: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        bgr = np.ascontiguousarray(picture[..., ::-1])
        boxes, points = detector.detect(bgr)
        seen = [Face(bbox=box[:4], kps=kps, det_score=box[4]) for box, kps in zip(boxes, points, strict=True)]
        return [(face.bbox, embedder.get(bgr, face)) for face in seen]

    return faces


def _prepared(pictures: Tensor, side: int, colors: tuple[Tensor, Tensor]) -> Tensor:
    """[P, 3, side, side], as the model has seen pictures in training."""
    small = F.interpolate(pictures, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    return (small - colors[0][:, None, None]) / colors[1][:, None, None]


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:4], b[2:4])
    common = float(np.prod(np.clip(high - low, 0, None)))
    union = float(np.prod(a[2:4] - a[:2]) + np.prod(b[2:4] - b[:2])) - common
    return common / union if union > 0 else 0.0
