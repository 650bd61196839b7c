"""The first stage of every evaluation of images: images and texts become vectors, with an account.

<out>/datasets/  vectors/<key>/  queries/<key>/
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raybench import storage
from raybench.collection import Collection, open_collection
from raybench.embedding.again import EmbeddedAgain
from raybench.embedding.job import EmbedJob, TextSource
from raybench.encoders import ENCODERS
from raybench.encoders.base import EncoderRecipe, own_packages
from raybench.errors import WorkError
from raybench.experiments import judgments
from raybench.experiments.backend import Backend
from raybench.experiments.judgments import Judged
from raybench.experiments.prepared import UPSTREAM, Prepared
from raybench.experiments.reporting import Reporter
from raybench.experiments.run_file import Run
from raybench.spec import Spec

_SMALL_BYTES = 256_000_000  # of pictures


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """What the first stage gives: judgments, and a collection of images and of texts for every encoder."""

    judged: Judged
    images: dict[str, Collection]
    texts: dict[str, Collection]
    jobs: dict[tuple[str, str], EmbedJob]  # by modality and encoder

    def again(self, modality: str, encoder: str) -> EmbeddedAgain:
        """A collection with what it was made of."""
        made = self.images if modality == "image" else self.texts
        return EmbeddedAgain(made[encoder], self.jobs[modality, encoder])


def embed_all(progress: Run, prepared: Prepared, backend: Backend, reporter: Reporter) -> Embedded:
    """Images and texts with every encoder, and the judgments; what is there already is not embedded again."""
    evaluation = prepared.evaluation
    _say_plan(prepared, backend, reporter, texts=0 if prepared.queries is None else len(prepared.queries))
    judged, made_by = None, {}
    if prepared.queries is not None and prepared.judgments is not None:
        judged = _store(progress, prepared.queries, prepared.judgments)
    images, texts = {}, {}
    if judged is not None:
        _embed_together(progress, prepared, judged, backend, reporter)
    for spec in evaluation.encoders:
        encoder = ENCODERS.make(spec)
        jobs = [_image_job(prepared, spec, encoder)] + ([_text_job(prepared, judged, spec, encoder)] if judged else [])
        images[spec], *rest = _embed(progress, prepared, jobs, backend, reporter)
        if judged is None:
            judged = _store(progress, *judgments.from_captions(images[spec]))
            if progress.artifacts[0]["dropped"]:
                progress.warnings.append(
                    f"{sum(progress.artifacts[0]['dropped'].values())} images were dropped, and with them their captions: "
                    "the queries are the captions of the others"
                )
            rest = _embed(progress, prepared, [_text_job(prepared, judged, spec, encoder)], backend, reporter)
        [texts[spec]] = rest
        made_by["image", spec], made_by["text", spec] = jobs[0], _text_job(prepared, judged, spec, encoder)
    if judged is None:
        raise WorkError("there are no queries; this is a defect of raybench")
    missing, of = judgments.missing_images(judged, next(iter(images.values())))
    if missing:
        progress.warnings.append(
            f"{missing} of {of} judged images were not read; they count as relevant, and no search can find them"
        )
    return Embedded(judged, images, texts, made_by)


def _embed_together(progress: Run, prepared: Prepared, judged: Judged, backend: Backend, reporter: Reporter) -> None:
    """A small collection goes through all encoders at once: to start a pipeline for each would take longer than the work."""
    groups = _groups(prepared.evaluation.encoders, [prepared])
    for specs in groups if len(groups) < len(prepared.evaluation.encoders) else ():
        started = time.perf_counter()
        _embed_jobs([(prepared, judged)], specs, f"embedding with {len(specs)} encoders", backend, reporter)
        progress.seconds[f"embedding with {', '.join(specs)}"] = round(time.perf_counter() - started, 3)


def embed_ahead(several: Sequence[Prepared], backend: Backend, reporter: Reporter) -> None:
    """What several evaluations with the same encoders and judgments of their own need, each model loaded once for all."""
    of = []
    for one in several:
        if one.queries is None or one.judgments is None:
            raise WorkError(f"{one.evaluation.name} has no judgments of its own; this is a defect of raybench")
        of.append((one, judgments.store(storage.join(one.out, "queries"), one.queries, one.judgments)))
    for specs in _groups(several[0].evaluation.encoders, several):
        _embed_jobs(of, specs, f"embedding {len(several)} sets with {', '.join(specs)}", backend, reporter)


def _groups(encoders: Sequence[str], several: Sequence[Prepared]) -> list[list[str]]:
    """Encoders that are run together: all of them where the pictures are few, but for those with packages of their own."""
    alone = [[spec] for spec in encoders]
    if sum(shard.size_bytes for one in several for shard in one.shards) > _SMALL_BYTES:
        return alone
    shared = [spec for spec in encoders if not own_packages(ENCODERS.make(spec))]
    return [shared, *(one for one in alone if one[0] not in shared)] if len(shared) > 1 else alone


def _embed_jobs(
    of: Sequence[tuple[Prepared, Judged]], specs: Sequence[str], what: str, backend: Backend, reporter: Reporter
) -> None:
    jobs = [
        job
        for spec in specs
        for one, judged in of
        for job in (_image_job(one, spec, ENCODERS.make(spec)), _text_job(one, judged, spec, ENCODERS.make(spec)))
    ]
    if any(storage.read_manifest(job.uri) is None for job in jobs):
        with reporter.stage(what, None) as advance:
            backend.embed(jobs, of[0][0].evaluation.embed.workers, advance)


def embed_images(prepared: Prepared, backend: Backend, reporter: Reporter) -> Run:
    """The first stage alone: images to vectors with every encoder of an evaluation."""
    progress = Run(prepared.evaluation, prepared.out)
    _say_plan(prepared, backend, reporter)
    for spec in prepared.evaluation.encoders:
        _embed(progress, prepared, [_image_job(prepared, spec, ENCODERS.make(spec))], backend, reporter)
    return progress


def _say_plan(prepared: Prepared, backend: Backend, reporter: Reporter, texts: int = 0) -> None:
    settings, num_shards = prepared.evaluation.embed, len(prepared.shards)
    size_bytes = sum(shard.size_bytes for shard in prepared.shards)
    own = any(own_packages(ENCODERS.make(spec)) for spec in prepared.evaluation.encoders)
    plan = backend.plan(settings.threads, settings.workers, num_shards, size_bytes, texts, own=own)
    reporter.say(f"{num_shards} shards of images; {plan}")


def _image_job(prepared: Prepared, spec: str, encoder: EncoderRecipe) -> EmbedJob:
    settings = prepared.evaluation.embed
    return EmbedJob(
        "image", prepared.source, prepared.shards, str(Spec.parse(spec)), encoder, encoder.fingerprint(),
        encoder.preprocess(), storage.join(prepared.out, "vectors"), settings.chunk, settings.threads,
    )  # fmt: skip


def _text_job(prepared: Prepared, judged: Judged, spec: str, encoder: EncoderRecipe) -> EmbedJob:
    settings, source = prepared.evaluation.embed, TextSource(judged.queries_uri)
    return EmbedJob(
        "text", source, tuple(source.plan()), str(Spec.parse(spec)), encoder, encoder.fingerprint(), None,
        storage.join(prepared.out, "vectors"), settings.chunk, settings.threads,
    )  # fmt: skip


def _embed(
    progress: Run, prepared: Prepared, jobs: list[EmbedJob], backend: Backend, reporter: Reporter
) -> list[Collection]:
    """Embed with one encoder, keep account, and fail where too many images could not be read."""
    settings = prepared.evaluation.embed
    started = time.perf_counter()
    with reporter.stage(f"embedding with {jobs[0].encoder_spec}", None) as advance:
        manifests = backend.embed(jobs, settings.workers, advance)
    elapsed_s = time.perf_counter() - started
    counts = [
        f"{manifest['rows_in']} {job.modality}s in, {manifest['rows_out']} out, "
        f"{sum(manifest['dropped'].values())} dropped"
        for job, manifest in zip(jobs, manifests, strict=True)
    ]
    took = f"; {elapsed_s:.1f} s" if elapsed_s >= 0.05 else ""
    reporter.say(f"{jobs[0].encoder_spec}: {'; '.join(counts)}{took}")
    stage = f"embedding {' and '.join(job.modality for job in jobs)} with {jobs[0].encoder_spec}"
    progress.seconds[stage] = round(elapsed_s, 3)
    for job, manifest in zip(jobs, manifests, strict=True):
        progress.artifacts.append(_account(job, manifest))
        if job.modality == "image":
            _check_losses(job, manifest, settings.max_bad)
    return [open_collection(job.uri) for job in jobs]


def _account(job: EmbedJob, manifest: dict[str, Any]) -> dict[str, Any]:
    """The entry of a folder of vectors in run.json.

    Where other jobs ran together with it, the seconds of all are not this job's: those of the encoder are taken, which are.
    """
    environment = manifest["environment"]
    shared = len(environment.get("pipeline", ())) > 1
    copied = ("rows_in", "rows_out", "dropped", "examples", "encoder_facts", "checksum")
    return {name: manifest[name] for name in copied} | {
        "kind": "vectors", "modality": job.modality, "encoder": job.encoder_spec, "uri": f"vectors/{job.key}",
        "preprocess": manifest["recipe"]["preprocess"],
        "seconds": environment.get("busy_s" if shared else "embed_s", 0.0), "seconds_of": "encoder" if shared else "pipeline",
        "rows_timed": environment.get("rows_timed", 0),
    }  # fmt: skip


def _check_losses(job: EmbedJob, manifest: dict[str, Any], most: float) -> None:
    lost = {reason: count for reason, count in manifest["dropped"].items() if not reason.startswith(UPSTREAM)}
    looked_at = manifest["rows_out"] + sum(lost.values())
    share = sum(lost.values()) / looked_at if looked_at else 1.0
    if share > most:
        worst = ", ".join(f"{reason} {count}" for reason, count in sorted(lost.items(), key=lambda item: -item[1])[:4])
        raise WorkError(
            f"{share:.1%} of the images could not be read ({worst or 'there are none'}), more than embed.max_bad="
            f"{most:g}; look at the examples in {storage.join(job.uri, storage.MANIFEST)}"
        )


def _store(progress: Run, queries: pa.Table, qrels: pa.Table) -> Judged:
    stored = judgments.store(progress.place("queries"), queries, qrels)
    if stored.dropped:
        progress.warnings.append(
            "left out of the judgments: " + ", ".join(f"{reason} {count}" for reason, count in stored.dropped.items())
        )
    return stored
