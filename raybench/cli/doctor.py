"""`raybench doctor`."""

import json
import os
from typing import Any

import click


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")
def command(as_json: bool) -> None:
    """Say what this machine and cluster have, what is missing, and what to do."""
    facts = _facts()
    findings = _findings(facts)
    width = max(map(len, facts))
    for name, value in facts.items():
        shown = ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else value
        click.echo(f"{name.ljust(width)}  {shown}")
    for finding in findings:
        click.echo(f"! {finding}")
    if not findings:
        click.echo("nothing is missing")
    if as_json:
        click.echo(json.dumps({"ok": True, "facts": facts, "findings": findings}))


def _facts() -> dict[str, Any]:
    import torch

    from raybench.environment import environment

    facts = environment()
    facts["memory"] = f"{facts.pop('memory_bytes') / 1024**3:.1f} GiB"
    facts["torch_kernels"] = torch.backends.cpu.get_cpu_capability()
    facts["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] or "none"
    facts["ray_address"] = os.environ.get("RAY_ADDRESS", "none: a private Ray starts for each run")
    facts["s3_endpoint"] = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS"
    return facts


def _findings(facts: dict[str, Any]) -> list[str]:
    found = []
    capable = str(facts["torch_kernels"])
    if "AVX512" in capable and any(kernel in facts["blas"] for kernel in ("Haswell", "Zen", "Sandybridge", "Prescott")):
        found.append(
            f"numpy multiplies with the kernel of an older processor ({facts['blas']}) although this one has AVX-512: "
            "unset OPENBLAS_CORETYPE, or set it to SkylakeX, for about twice the speed"
        )
    if facts["gpus"] == "none":
        found.append("no GPU is visible to torch; models above a few hundred million parameters will be slow")
    if facts["cores"] < 2:
        found.append("one core: decoding and encoding will take turns; use a machine with more")
    return found
