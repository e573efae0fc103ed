"""The keys that describe a runtime. The descriptions are what the documentation is made of."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pool_service.adapters.runtime.program import RuntimeOptions
from pool_service.config.types import (
    Command,
    DefaultText,
    Drains,
    HealthPath,
    Hosts,
    RequestBody,
    RuntimeKind,
    Section,
    ServedName,
    Switch,
    UseValues,
    Variables,
)

_RUNTIME = RuntimeOptions(data_dir=Path())


class RuntimeSection(Section):
    """The program that serves models, one process for each."""

    command: Command = Field(
        default=_RUNTIME.command,
        description="The program and its arguments, never a shell; {runtime_model}, {port} and "
        "{model} are filled in. A program named vllm-mlx also gets the options that the pool "
        "relies on. The default one is looked for beside the running interpreter, on PATH, "
        "and in data_dir.",
    )
    kind: Annotated[RuntimeKind, DefaultText("told by the program's name")] = Field(
        default=_RUNTIME.kind,
        description="What the program is to be treated as: vllm-mlx, or any other program that "
        "serves one model per process.",
    )
    health_path: HealthPath = Field(
        default=_RUNTIME.health_path,
        description="The path that answers 200 once the model is loaded. It is asked as long as "
        "the server runs, so it must not hold up or end what the runtime works on.",
    )
    ready_path: Annotated[HealthPath, DefaultText("none")] = Field(
        default=_RUNTIME.ready_path,
        description="For a program whose health path answers before the model is loaded: a path "
        "that is sent ready_body once, with POST, and must answer 200 before the server is READY.",
    )
    ready_body: Annotated[RequestBody, DefaultText("none")] = Field(
        default=_RUNTIME.ready_body,
        description="What is sent there: a request that makes the program load its model and "
        "answer shortly; {model} and {runtime_model} are filled in.",
    )
    busy_path: Annotated[HealthPath, DefaultText("none")] = Field(
        default=_RUNTIME.busy_path,
        description="Where a program of kind plain tells how many requests it works on, as "
        "Prometheus's text format or as JSON. Without it the server is busy while anybody is "
        "connected to it. vllm-mlx is asked without being told.",
    )
    busy_values: UseValues = Field(
        default=_RUNTIME.busy_values,
        description="The values to add up there: names of metrics, with the labels that they "
        "must have, or JSON pointers. Together they must count every request, also those that "
        "wait.",
    )
    drains: Annotated[Drains, DefaultText("true for vllm-mlx, false for others")] = Field(
        default=_RUNTIME.drains,
        description="Whether the program, after SIGTERM, takes no new request and finishes those "
        "in flight. If not, the pool waits until nothing is in flight, and then sends SIGTERM.",
    )
    served_model_name: Annotated[
        ServedName, DefaultText("`{model}` for vllm-mlx, `{runtime_model}` for others")
    ] = Field(
        default=_RUNTIME.served_model_name,
        description="What the model field of inference requests must say; {model} and "
        "{runtime_model} are filled in.",
    )
    provision: Switch = Field(
        default=_RUNTIME.provision,
        description="Install vllm-mlx into data_dir at the first need if it is not found, which "
        "takes minutes and gigabytes.",
    )
    environment: Variables = Field(
        default=_RUNTIME.environment,
        description="Variables that servers get besides the harmless part of the service's own "
        "environment (PATH, HOME, HF_*, proxies and the like).",
    )
    allowed_hosts: Hosts = Field(
        default=_RUNTIME.allowed_hosts,
        description="Names besides localhost and 127.0.0.1 by which a vllm-mlx may be called, such "
        "as that of a reverse proxy, and whole origins of pages (app://frame). Other calls get "
        "403, so that no web page can use a server. *: whoever calls.",
    )
