"""The keys of [runtime] and [runtimes.NAME]; their descriptions become the documentation."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pool_service.adapters.runtime.runtime_options import RuntimeOptions, SandboxMode
from pool_service.config.server_types import (
    BusyValues,
    Command,
    Drains,
    HealthPath,
    Hosts,
    RequestBody,
    RuntimeKind,
    ServedName,
    UrlPath,
    Variables,
)
from pool_service.config.types import DefaultText, Directories, Form, Section, Switch

_RUNTIME = RuntimeOptions(data_dir=Path())
_MODES = '"auto", "on" or "off"'

Sandboxing = Annotated[SandboxMode, Form(_MODES, _MODES, str.lower)]


class RuntimeSection(Section):
    """The program that serves models, one process for each."""

    command: Command = Field(
        default=_RUNTIME.command,
        description="The program and its arguments, never a shell; {runtime_model}, {port}, "
        "{host} (the address to listen on: that of fleet.advertise, else 127.0.0.1), {model} and "
        "{api_key_file} (see server_keys) are filled in. A program that the pool knows also gets "
        "the options that the pool relies on: of vllm-mlx, llama-server and others the name is "
        "enough. The default program is looked for beside the running interpreter, on "
        "PATH, and in data_dir.",
    )
    kind: Annotated[RuntimeKind, DefaultText("derived from the program's name")] = Field(
        default=_RUNTIME.kind,
        description="How the pool treats the program: as vllm-mlx, or as plain, for any other "
        "program that serves one model per process. If you set plain for a program that the pool "
        "knows, it runs exactly your command, and only the keys of this section say what it is.",
    )
    health_path: Annotated[HealthPath, DefaultText('`"/health"`, or as known')] = Field(
        default=_RUNTIME.health_path,
        description="The path that answers 200 once the model is loaded. The pool requests it as "
        "long as the server runs, so it must not delay or end the runtime's work.",
    )
    ready_path: Annotated[UrlPath, DefaultText("none")] = Field(
        default=_RUNTIME.ready_path,
        description="For a program whose health path answers before the model is loaded: the path "
        "to which ready_body is sent, once and with POST; the server is READY when it answers 200.",
    )
    ready_body: Annotated[RequestBody, DefaultText("none")] = Field(
        default=_RUNTIME.ready_body,
        description="The request that is sent to ready_path, which makes the program load its "
        "model and give a short answer; {model} and {runtime_model} are filled in.",
    )
    busy_path: Annotated[UrlPath, DefaultText("none")] = Field(
        default=_RUNTIME.busy_path,
        description="The path at which a program of kind plain reports how many requests it works "
        "on, in Prometheus's text format or as JSON. Without it, a server counts as busy while "
        "anybody is connected to it. For vllm-mlx and other known programs the pool knows the "
        "path.",
    )
    busy_values: BusyValues = Field(
        default=_RUNTIME.busy_values,
        description="The values at busy_path to add up: names of metrics, with the labels that "
        "they must have, or JSON pointers. Together they must count every request, including "
        "those that wait.",
    )
    use_values: BusyValues = Field(
        default=_RUNTIME.use_values,
        description="Values at busy_path that change with each request, in the form of "
        "busy_values, such as counters of requests or tokens: by them the pool also sees a request "
        "that came and went between two checks.",
    )
    drains: Annotated[Drains, DefaultText("as known of the program, else false")] = Field(
        default=_RUNTIME.drains,
        description="Whether the program, after SIGTERM, accepts no new requests and finishes "
        "those in flight, as vllm-mlx does. If not, the pool waits until none is in flight, and "
        "then sends SIGTERM.",
    )
    served_model_name: Annotated[
        ServedName,
        DefaultText(
            "`{model}` for a program that can be told a name, as vllm-mlx and some known ones; "
            "`{runtime_model}` for others"
        ),
    ] = Field(
        default=_RUNTIME.served_model_name,
        description="What the model field of inference requests must say; {model} and "
        "{runtime_model} are filled in.",
    )
    provision: Switch = Field(
        default=_RUNTIME.provision,
        description="Install vllm-mlx in data_dir when it is first needed and not found. That "
        "takes minutes and gigabytes.",
    )
    environment: Variables = Field(
        default=_RUNTIME.environment,
        description="Variables that servers get besides the harmless part of the service's own "
        "environment (PATH, HOME, HF_*, proxies and the like); {api_key} in a value is filled in "
        "(see server_keys).",
    )
    allowed_hosts: Hosts = Field(
        default=_RUNTIME.allowed_hosts,
        description="Names besides localhost and 127.0.0.1 under which vllm-mlx accepts requests, "
        "such as that of a reverse proxy, and whole origins of pages (app://frame). Other requests "
        "get 403, so that no web page can use a server. *: accept all.",
    )
    server_keys: Switch = Field(
        default=_RUNTIME.server_keys,
        description="Give each server a key of its own, without which it answers 401, and which "
        "only callers of Ensure and Hold get. vllm-mlx gets it by itself, "
        "llama-server and vllm serve in their variables. Another program has a key if it can get "
        'it: in a variable (environment = { SERVER_KEY = "{api_key}" }), or from a file, whose '
        "path is {api_key_file} in command or arguments.",
    )
    sandbox: Sandboxing = Field(
        default=_RUNTIME.sandbox,
        description="Whether servers are confined: each reads only its model and the programs of "
        "the system, changes only its working directory, calls nobody, and disturbs no other "
        "process. auto: those of vllm-mlx, where the system can (Linux with Landlock). on: they "
        "are not started otherwise; also for other programs. off: they have all your rights.",
    )
    sandbox_readable: Directories = Field(
        default=_RUNTIME.sandbox_readable,
        description="Directories that confined servers may read besides what they need, such as "
        "one that links in the directory of a model lead to.",
    )
