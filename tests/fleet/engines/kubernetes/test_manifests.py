"""The manifests in packaging/kubernetes: their form, how they fit together, and the rights."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

from pool_service.adapters.state_dir.directory_lock import StateDir, StateDirError
from pool_service.config.loading import Source
from pool_service.config.service_source import SERVICE
from pool_service.fleet.config import FrontConfig, front_source
from pool_service.fleet.config.engines import LeaseName, ServiceName
from pool_service.fleet.engines.kubernetes.access import Access
from pool_service.fleet.engines.kubernetes.client import KubernetesClient
from pool_service.fleet.engines.kubernetes.errors import Refused
from pool_service.fleet.engines.kubernetes.leadership import LeaseLeadership
from pool_service.fleet.engines.kubernetes.membership import ServiceMembership
from tests.fleet.engines.kubernetes.api_server import Kubectl, endpoint, slice_of
from tests.fleet.engines.kubernetes.kube_apiserver import KubeApiServer
from tests.fleet.engines.told import Front, following, leads

ROOT = Path(__file__).parents[4]
DIRECTORY = ROOT / "packaging" / "kubernetes"
VERSIONS = ("1.25", "1.34", "1.37")
NAMESPACE = "pool-service"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"

if TYPE_CHECKING:
    from tests.fleet.engines.kubernetes.fake_api_server import FakeApiServer

Manifest = dict[str, Any]


def read() -> Iterator[Manifest]:
    for file in sorted(DIRECTORY.glob("*.yaml")):
        yield from yaml.safe_load_all(file.read_text())


MANIFESTS = {(one["kind"], one["metadata"]["name"]): one for one in read()}
MEMBER = MANIFESTS["DaemonSet", "member"]["spec"]["template"]
FRONT = MANIFESTS["Deployment", "front"]["spec"]["template"]
PODS = pytest.mark.parametrize("pod", [MEMBER, FRONT], ids=["member", "front"])
ADDRESSES = {"POD_IP": "10.1.0.7", "NODE_NAME": "node-1.example"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("key", MANIFESTS, ids="/".join)
def test_each_has_the_form_that_kubernetes_publishes(key: tuple[str, str], version: str) -> None:
    kubernetes_validate.validate(MANIFESTS[key], version, strict=True)


def test_a_wrong_key_would_be_found() -> None:
    wrong = {**MANIFESTS["Service", "members"], "spec": {"clusterIp": "None"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_all_but_the_namespace_are_in_it() -> None:
    for (kind, _), one in MANIFESTS.items():
        if kind != "Namespace":
            assert one["metadata"]["namespace"] == NAMESPACE
    assert ("Namespace", NAMESPACE) in MANIFESTS


def environment(pod: Manifest) -> dict[str, str]:
    """Return the variables of a pod's container, as Kubernetes fills them in."""
    filled: dict[str, str] = {}
    for one in pod["spec"]["containers"][0]["env"]:
        value = one.get("value", ADDRESSES.get(one["name"], ""))
        filled[one["name"]] = re.sub(r"\$\((\w+)\)", lambda name: filled[name[1]], value)
    return filled


def configuration(name: str, directory: Path) -> Path:
    ((file, text),) = MANIFESTS["ConfigMap", name]["data"].items()
    written = directory / str(file)
    written.write_text(text)
    return written


@pytest.fixture
def front(tmp_path: Path) -> FrontConfig:
    return front_source(configuration("front", tmp_path), {}, environment(FRONT)).load()


def test_the_configuration_of_the_fronts_is_valid(front: FrontConfig) -> None:
    assert front.front.listen == ("127.0.0.1:50050", "10.1.0.7:50050")
    assert front.front.address == "10.1.0.7:50050"
    assert front.leader == LeaseName(NAMESPACE, "pool-service")
    assert front.discovery == ServiceName(NAMESPACE, "members", "grpc")


def test_the_configuration_of_the_members_is_valid_and_lets_the_fronts_call(
    front: FrontConfig, tmp_path: Path
) -> None:
    member = Source(SERVICE, configuration("member", tmp_path), {}, environment(MEMBER)).load()
    assert member.service.listen == ("127.0.0.1:50051", "10.1.0.7:50051")
    assert (member.fleet.name, member.fleet.advertise) == ("node-1.example", "10.1.0.7")
    assert member.clients["front"].fleet
    assert member.clients["front"].san == front.clients["front"].san


@pytest.mark.parametrize(("service", "pod"), [("members", MEMBER), ("fronts", FRONT)])
def test_each_service_selects_its_pods_and_has_their_port(service: str, pod: Manifest) -> None:
    spec = MANIFESTS["Service", service]["spec"]
    assert spec["selector"].items() <= pod["metadata"]["labels"].items()
    (port,) = spec["ports"]
    (of_pod,) = pod["spec"]["containers"][0]["ports"]
    assert (port["name"], port["targetPort"]) == ("grpc", of_pod["name"])
    assert port["port"] == of_pod["containerPort"]


@PODS
def test_whatever_a_pod_names_is_there(pod: Manifest) -> None:
    spec = pod["spec"]
    container = spec["containers"][0]
    volumes = {one["name"]: one for one in spec["volumes"]}
    assert {one["name"] for one in container["volumeMounts"]} == volumes.keys()
    assert ("ConfigMap", volumes["configuration"]["configMap"]["name"]) in MANIFESTS
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    config = volumes["configuration"]["configMap"]["name"]
    ((file, text),) = MANIFESTS["ConfigMap", config]["data"].items()
    assert f"{mounts['configuration']}/{file}" in container["args"]
    assert set(re.findall(r'"(/etc[^"]*)/', text)) == {mounts["tls"]}
    account = spec.get("serviceAccountName")
    assert account is None or ("ServiceAccount", account) in MANIFESTS


def test_the_state_of_a_member_is_no_directory_that_everybody_may_write(tmp_path: Path) -> None:
    """An emptyDir is one (mode 0777), which a service refuses."""
    everybodys = tmp_path / "empty"
    everybodys.mkdir()
    everybodys.chmod(0o777)
    with pytest.raises(StateDirError, match="other users"):
        StateDir(everybodys / "state")
    spec = MEMBER["spec"]
    state = next(
        one["name"]
        for one in spec["containers"][0]["volumeMounts"]
        if environment(MEMBER)["POOL_SERVICE_STATE_DIR"].startswith(one["mountPath"] + "/")
    )
    volumes = {one["name"]: one for one in spec["volumes"]}
    assert "hostPath" in volumes[state]


@PODS
def test_a_pod_has_no_more_rights_than_it_needs(pod: Manifest) -> None:
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["automountServiceAccountToken"] == (pod is FRONT)
    for container in spec["containers"]:
        context = container["securityContext"]
        assert not context["allowPrivilegeEscalation"]
        assert context["readOnlyRootFilesystem"]
        assert context["capabilities"] == {"drop": ["ALL"]}
    for volume in spec["volumes"]:
        if "secret" in volume:
            # The service refuses a key that others may read.
            assert volume["secret"]["defaultMode"] & 0o037 == 0


def test_the_budget_leaves_one_of_two_fronts() -> None:
    budget = MANIFESTS["PodDisruptionBudget", "front"]["spec"]
    assert budget["selector"]["matchLabels"].items() <= FRONT["metadata"]["labels"].items()
    assert MANIFESTS["Deployment", "front"]["spec"]["replicas"] == budget["minAvailable"] + 1


def allow(server: KubeApiServer) -> None:
    """Create what gives the fronts their rights, in the real API server."""
    group = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
    for path, key in (
        ("/api/v1/namespaces", ("Namespace", NAMESPACE)),
        (f"{group}/roles", ("Role", "front")),
        (f"{group}/rolebindings", ("RoleBinding", "front")),
    ):
        status, said = server.ask("POST", path, MANIFESTS[key])
        assert status in (201, 409), said


@pytest.fixture
def access(
    kube_apiserver: KubeApiServer | None, request: pytest.FixtureRequest
) -> tuple[Access, Access]:
    """Return the ways to an API server of an administrator, and of a front with its rights."""
    if kube_apiserver is not None:
        allow(kube_apiserver)
        return kube_apiserver.access, kube_apiserver.access_of("front")
    fake: FakeApiServer = request.getfixturevalue("fake")
    return fake.access, fake.access_with(MANIFESTS["Role", "front"]["rules"])


@pytest.mark.process
async def test_the_rights_of_the_fronts_are_enough(
    access: tuple[Access, Access], front: FrontConfig
) -> None:
    administrator, limited = access
    kubectl = Kubectl(administrator)
    await kubectl.delete_if_there(LEASES, "pool-service")
    await kubectl.delete_if_there(SLICES, "a")
    await kubectl.create(SLICES, slice_of("members", "a", [endpoint("10.1.0.5", node="mac-1")]))
    assert isinstance(front.leader, LeaseName)
    assert isinstance(front.discovery, ServiceName)
    one = Front(
        LeaseLeadership(
            KubernetesClient(limited),
            namespace=front.leader.namespace,
            lease=front.leader.name,
            name="one",
            address="one:1",
            life_s=3,
        )
    )
    membership = ServiceMembership(
        KubernetesClient(limited),
        namespace=front.discovery.namespace,
        service=front.discovery.name,
        port=front.discovery.port,
        watch_s=1.0,
    )
    with following(membership) as told:
        await told.until(lambda known: known == {"mac-1": "10.1.0.5:50051"})
        first = await one.told.until(leads)
        await one.told.until(lambda lead: lead.until > first.until)
        two = endpoint("10.1.0.6", node="mac-1")
        await kubectl.replace(f"{SLICES}/a", endpoints=[two])
        await told.until(lambda known: known == {"mac-1": "10.1.0.6:50051"})
    await one.end()
    assert not (await kubectl.get(f"{LEASES}/pool-service"))["spec"].get("holderIdentity")
    await kubectl.close()


@pytest.mark.process
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", LEASES),
        ("GET", f"{LEASES}/another"),
        ("PUT", f"{LEASES}/another"),
        ("DELETE", f"{LEASES}/pool-service"),
        ("GET", f"{SLICES}/a"),
        ("POST", SLICES),
        ("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets"),
        ("GET", f"/api/v1/namespaces/{NAMESPACE}/pods"),
        ("GET", LEASES.replace(NAMESPACE, "default")),
    ],
)
async def test_the_fronts_have_no_other_rights(
    access: tuple[Access, Access], method: str, path: str
) -> None:
    client = KubernetesClient(access[1])
    body = {"metadata": {"name": "another"}} if method in ("PUT", "POST") else None
    with pytest.raises(Refused, match="403"):
        await client._call(method, path, body, {})
    await client.close()


@pytest.mark.process
def test_the_real_api_server_takes_them_all(kube_apiserver: KubeApiServer | None) -> None:
    if kube_apiserver is None:
        pytest.skip("POOL_TESTS_KUBE_APISERVER names no program")
    allow(kube_apiserver)
    for (kind, _), one in MANIFESTS.items():
        group, _, version = one["apiVersion"].rpartition("/")
        root = f"/apis/{group}/{version}" if group else f"/api/{version}"
        within = "" if kind == "Namespace" else f"/namespaces/{NAMESPACE}"
        path = f"{root}{within}/{kind.lower()}s?dryRun=All&fieldValidation=Strict"
        status, said = kube_apiserver.ask("POST", path, one)
        exists = kind in ("Namespace", "Role", "RoleBinding")
        assert status == (409 if exists else 201), said
