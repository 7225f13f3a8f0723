"""What a data set says of where its features came from, and so of what it takes to make those of new items."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from common.console import InputError
from dataloader.modalities import AUDIO, RETRIEVAL, in_order
from dataloader.store import FeatureStore
from feature_engineering.jobs.comparing import OF_FRAMES, recipe


def needed(like: FeatureStore, names: Collection[str], given: Collection[str] = ()) -> list[str]:
    """These features, and those of which what is not `given` by a file is made."""
    of, found, left = like.description.features, [], sorted(names)
    while left:
        name = left.pop()
        if name not in found and name in of:
            found.append(name)
            left += [] if name in given else of[name].made.get("made_of", {})
    return in_order(found)


def refuse_unknown_origins(like: FeatureStore, names: Sequence[str], given: Mapping[str, str]) -> None:
    """InputError, naming all, where features were made by nothing that could make them again."""
    of, names = like.description.features, needed(like, names, given)
    made = {name for name in names if "encoder" in of[name].made or recipe(of[name].made)}
    lacking = [name for name in names if name not in {*made, *given}]
    if lacking := [name for name in lacking if (twin := twin_of(like, name)) is None or twin in lacking]:
        said = ", ".join(f"{name} from {of[name].made.get('source', 'elsewhere')}" for name in lacking)
        raise InputError(
            f"{like.folder}: some of its features came from files ({said}); give those of the new items too: "
            f"--features {' '.join(f'{name}=<file>' for name in lacking)}"
        )


def hears(like: FeatureStore, names: Collection[str]) -> bool:
    """Whether some of these features are made of sound, so that an item needs a video."""
    return AUDIO in needed(like, names) and "encoder" in like.description.features[AUDIO].made


def needs_videos(like: FeatureStore, names: Collection[str]) -> bool:
    """Whether some are made of frames, for which pictures would do, or of sound."""

    def of_frames(name: str) -> bool:
        feature, twin = like.description.features[name], twin_of(like, name)
        if any(source in (*OF_FRAMES, "captions") for source in recipe(feature.made)):
            return True
        sides = [*feature.made.get("made_of", {}), *([twin] if twin else [])]
        return any(map(of_frames, sides)) or (len(feature.shape) == 3 and "encoder" in feature.made)

    return hears(like, names) or any(map(of_frames, names))


def twin_of(store: FeatureStore, name: str) -> str | None:
    """Of retrieval vectors: other features of which they are a copy, or of frames the mean."""
    if name != RETRIEVAL:
        return None
    features = store.description.features
    alike = (other for other, feature in features.items() if other != name and feature.sha256 == features[name].sha256)
    source = str(features[name].made.get("source", ""))
    of_file = (other for other in features if f": the {other} features, as no" in source)
    return next(alike, None) or next(of_file, None)
