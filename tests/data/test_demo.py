"""The demo's world: drawn alike every time, real H.264, as hard as it says. CI runs the demo itself."""

from __future__ import annotations

import csv
import sys

import av
import numpy as np
import pytest
from scipy import stats


@pytest.fixture(scope="module")
def clips(load_script):
    return load_script("data/demo/clips.py")


@pytest.fixture(scope="module")
def videos(clips):
    return clips.plan()


def test_the_plan_is_the_same_every_time_and_another_for_another_seed(clips, videos):
    assert clips.plan() == videos
    assert [video.title for video in clips.plan(1)] != [video.title for video in videos]
    counts = {split: sum(video.split == split for video in videos) for split in clips.SPLITS}
    assert counts == {"train": 260, "valid": 50, "test": 90}
    assert len({video.item_id for video in videos}) == 400
    assert all(video.comments >= 0 and isinstance(video.comments, int) for video in videos)


def test_clips_are_h264_and_drawn_alike_every_time(clips, videos, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for video in videos[:12]:
            clips.write_video(video, tmp_path / name)
    for video in videos[:12]:
        path = tmp_path / "one" / f"{video.item_id}.mp4"
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.width, stream.height) == ("h264", clips.SIZE, clips.SIZE)
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert len(frames) == clips.FRAMES
        drawn = np.asarray(clips.draw(video)[-1], dtype=float)
        assert np.abs(frames[-1] - drawn).mean() < 8  # lossy, but the picture that was drawn
        assert any(np.abs(frames[0].astype(float) - frame).max() > 60 for frame in frames)  # it moves


def test_every_activity_looks_different(clips, videos):
    first = videos[0]
    looks = []
    for activity in range(len(clips.ACTIVITIES)):
        video = clips.Video(**{**vars(first), "activity": activity})
        looks.append(np.stack([np.asarray(frame) for frame in clips.draw(video)]))
    pairs = [(i, j) for i in range(len(looks)) for j in range(i)]
    assert all(not np.array_equal(looks[i], looks[j]) for i, j in pairs)


def test_the_limit_is_the_noise_over_the_variance(clips, videos):
    truth = np.log2([1 + video.comments for video in videos if video.split == "test"])
    planted = np.array([video.planted for video in videos if video.split == "test"])
    limit = clips.reachable(videos, "test")
    assert limit["nMSE"] == pytest.approx(((truth - planted) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
    assert limit["MAE"] == pytest.approx(np.abs(truth - planted).mean())
    assert limit["SRC"] == pytest.approx(stats.spearmanr(planted, truth).statistic)
    assert np.isnan(clips.scores(np.zeros(len(truth)), truth)["SRC"])


def test_what_is_planted_is_topic_and_style_and_the_rest_is_noise(clips):
    noise = []
    for seed in range(10):
        videos = clips.plan(seed)
        cells = {}
        for video in videos:
            cells.setdefault((video.activity, video.place, video.style), set()).add(video.planted)
            noise.append(np.log2(video.comments + 1) - video.planted)
        assert all(len(planted) == 1 for planted in cells.values())
    assert np.std(noise) == pytest.approx(clips.NOISE_STD, rel=0.05)
    assert abs(np.mean(noise)) < 0.05


def test_titles_name_their_topic_but_not_always(clips, videos):
    def named(video, words) -> int:
        return len(set(words) & set(video.title.split()))

    assert all(named(video, clips.PLACES[video.place]) == 3 for video in videos)
    true = [named(video, clips.ACTIVITIES[video.activity]) == 3 for video in videos]
    assert 0.85 < np.mean(true) < 0.99


def test_the_table_holds_what_is_public_and_no_more(clips, videos, tmp_path):
    clips.write_table(videos, tmp_path / "items.csv")
    with (tmp_path / "items.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["item_id", "title", "comments", "split"]
    assert [(row["item_id"], row["title"], int(row["comments"])) for row in rows] == [
        (video.item_id, video.title, video.comments) for video in videos
    ]


def test_a_failing_command_ends_the_demo_with_its_exit_code(load_script, monkeypatch, clips):
    monkeypatch.setitem(sys.modules, "clips", clips)
    demo = load_script("data/demo/run.py")
    with pytest.raises(SystemExit) as stopped:
        demo.run("python -c 'import sys; sys.exit(7)'")
    assert stopped.value.code == 7
