"""The driver: step after step, the tasks that have no receipt yet. Holds no data, and may die at any time."""

from __future__ import annotations

import dataclasses
import gc
import logging
import time
from dataclasses import dataclass

from pipeline import storage
from pipeline.errors import ArtifactError, SpecError
from pipeline.jobs import lease
from pipeline.jobs.manifest import Manifest, is_finished, read_manifest, write_results
from pipeline.jobs.plan import Plan, make_plan, settle_plan
from pipeline.jobs.progress import Progress
from pipeline.jobs.runner import LocalRunner, Runner
from pipeline.jobs.schedule import Receipts, step_tasks, steps_of
from pipeline.jobs.steps import run_task
from pipeline.jobs.tasks import Job, Receipt, parse_receipt, read_receipts, receipt_path
from pipeline.spec import JobSpec

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did. ``was_finished``: there was nothing left to do."""

    manifest: Manifest
    was_finished: bool
    seconds: float


def run_job(spec: JobSpec, progress: Progress, runner: Runner | None = None) -> Outcome:
    """Plan, or resume, and run to the end. Raises PipelineError of any kind; run again to go on."""
    started = time.monotonic()
    plan = settle_plan(spec)
    job = make_job(spec, plan)
    if is_finished(job, plan, may_reopen=False):
        return Outcome(read_manifest(job.output), True, time.monotonic() - started)
    with lease.hold(job.output, job.conditional, progress.status) as check_lease:
        if not plan.conditional:
            plan = settle_plan(spec)  # of drivers that started at once, whose plan was stored is certain only now
        if is_finished(job, plan, may_reopen=True):  # by a driver that held the lease until now
            return Outcome(read_manifest(job.output), True, time.monotonic() - started)
        receipts: Receipts = {}
        step_seconds: dict[str, float] = {}
        stored = storage.list_stored(job.output)
        runner = runner or make_runner(spec)
        gc.freeze()  # a vocabulary is many objects; collecting garbage while it is made need not walk over all modules too
        try:
            for step in steps_of(plan):
                step_started = time.monotonic()
                tasks = step_tasks(step, job, plan, receipts)
                done = _done_before(job, step, stored)
                missing = [task for task in tasks if task.name not in done]
                if tasks:
                    progress.start(step, tasks, missing, runner.retries)
                    try:
                        for receipt in runner.run(job, sorted(missing, key=lambda task: -task.num_bytes)):
                            done[receipt.name] = receipt
                            progress.advance(receipt, runner.retries)
                            check_lease()
                    except BaseException as error:
                        progress.finish(runner.retries, failed=isinstance(error, Exception))
                        raise
                    progress.finish(runner.retries)
                receipts[step] = {task.name: done[task.name] for task in tasks}
                step_seconds[step] = round(time.monotonic() - step_started, 3)
            retries = runner.retries
        finally:
            gc.unfreeze()
            runner.close()
        execution = {"seconds": round(time.monotonic() - started, 3), "step_seconds": step_seconds, "retries": retries}
        manifest = write_results(job, plan, receipts, execution, check_lease)
        return Outcome(manifest, False, time.monotonic() - started)


def make_job(spec: JobSpec, plan: Plan) -> Job:
    """What tasks are told: without credentials, which they have from their environment."""
    execution = dataclasses.replace(spec.execution, storage_options={})
    return Job(dataclasses.replace(spec, execution=execution), storage.absolute(spec.output), plan.conditional)


def make_runner(spec: JobSpec) -> Runner:
    """The runner that ``execution.address`` asks for. Ray is imported only if it is needed."""
    execution = spec.execution
    if execution.address == "local":
        return LocalRunner(execution.max_in_flight, execution.retries)
    from pipeline.jobs.ray_runner import RayRunner

    runner = RayRunner(execution.address, execution.max_in_flight, execution.retries, execution.task_memory_bytes)
    if execution.storage_options and not runner.started_ray:
        runner.close()
        raise SpecError(
            "execution.storage_options stay in this process and in what it starts, but this job runs on a cluster that was "
            "there before. Leave them out, and give its nodes a role, AWS_… variables or "
            f"{storage.OPTIONS_VARIABLE} (the options as JSON)"
        )
    return runner


def run_alone(spec: JobSpec, label: str) -> Receipt:
    """Do one task, ``STEP/NAME``, in this process, whether or not it was tried before; for finding out why it fails.

    Raises
    ------
    SpecError
        There is no such task, or a step before it is not done.
    """
    wanted, _, name = label.partition("/")
    plan = make_plan(spec)  # stored when it is certain that there is something to do
    steps = steps_of(plan)
    if wanted not in steps:
        raise SpecError(f"--only {label}: STEP/NAME is expected; steps: {', '.join(steps)}")
    if storage.exists(storage.join(storage.absolute(spec.output), "plan.json")):
        plan = settle_plan(spec)
    job = make_job(spec, plan)
    receipts: Receipts = {}
    for step in steps[: steps.index(wanted)]:
        tasks = step_tasks(step, job, plan, receipts)
        receipts[step] = read_receipts(job.output, step)
        for task in tasks:
            if task.name not in receipts[step]:
                raise SpecError(
                    f"--only {label}: {task.label} is not done yet, which comes before it; run the job without --only"
                )
    tasks = step_tasks(wanted, job, plan, receipts)
    for task in tasks:
        if task.name == name:
            return run_task(make_job(spec, settle_plan(spec)), task)
    known = f"its {len(tasks)} are {tasks[0].name} to {tasks[-1].name}" if tasks else "this job has none of it"
    raise SpecError(f"--only {label}: {wanted} has no such task; {known}")


def _done_before(job: Job, step: str, stored: dict[str, storage.StoredFile]) -> dict[str, Receipt]:
    """The receipts of a step whose outputs are all there as published. Others are deleted: their tasks are done again.

    ``stored``: a listing of the output. What was written later than its receipt is read and hashed again.
    """
    folder = f"_work/receipts/{step}/"
    uris = {path: job.path(path) for path in stored if path.startswith(folder)}
    done = {}
    for (path, uri), content in zip(uris.items(), storage.read_all(list(uris.values())), strict=True):
        try:
            receipt = parse_receipt(content, uri)
            if receipt_path(receipt.step, receipt.name) != path:
                raise ArtifactError(f"{uri} is the receipt of {receipt.step} {receipt.name}; it is deleted")
            for entry in receipt.outputs:
                _check_output(job, entry, stored.get(entry["path"]), stored[path].modified)
        except ArtifactError as error:
            logger.warning("%s", error)
            storage.remove(uri)
        else:
            done[receipt.name] = receipt
    return done


def _check_output(job: Job, entry: dict[str, object], found: storage.StoredFile | None, published: float) -> None:
    if found is None:
        raise ArtifactError(f"{entry['path']} is gone; it is made again")
    if found.num_bytes != entry["bytes"]:
        raise ArtifactError(f"{entry['path']} has {found.num_bytes} bytes, not {entry['bytes']}; it is made again")
    if found.modified > published and storage.sha256_of(found.uri)[1] != entry["sha256"]:
        raise ArtifactError(f"{entry['path']} has changed since it was published; it is made again")
