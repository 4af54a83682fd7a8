"""What people do with docker-py. Prints one line for each step: its name, and what came of it."""

import json
import sys

import docker
from docker.types import EndpointSpec, Mount, Placement, Resources, RestartPolicy, ServiceMode, UpdateConfig

client = docker.DockerClient(base_url=sys.argv[1], version="auto", timeout=60)
IMAGE = "shoal/busybox:1"


def step(name, act):
    try:
        said = act()
        if isinstance(said, (dict, list)):
            said = json.dumps(said, sort_keys=True)
    except docker.errors.APIError as error:
        said = f"{error.response.status_code} {error.explanation}"
    except Exception as error:  # what the SDK itself stumbles over
        said = f"{type(error).__name__}: {error}"
    print(f"{name} => {said}", flush=True)


def named(things):
    return sorted(thing.name for thing in things)


def retried(update, tries=10):
    for _ in range(tries):
        try:
            return update()
        except docker.errors.APIError as error:
            if "update out of sequence" not in str(error):
                raise
    return "always out of sequence"


service = None


def create():
    global service
    service = client.services.create(
        IMAGE,
        ["sleep", "1d"],
        name="sdk",
        labels={"a": "b"},
        env=["A=1"],
        mode=ServiceMode("replicated", replicas=2),
        mounts=[Mount("/v", "vol", type="volume"), "/tmp:/t:ro"],
        constraints=["node.platform.os==linux"],
        resources=Resources(cpu_limit=500_000_000, mem_limit=64 << 20, mem_reservation=8 << 20),
        restart_policy=RestartPolicy("any", delay=1_000_000_000),
        update_config=UpdateConfig(parallelism=2, delay=1, monitor=1_000_000_000, max_failure_ratio=0.4),
        endpoint_spec=EndpointSpec(mode="vip"),
        stop_signal="SIGKILL",
        hostname="x",
        init=True,
    )
    return service.name


step("create", create)
step("attrs", lambda: client.services.get("sdk").attrs)
step("list", lambda: named(client.services.list()))
step("list by name", lambda: named(client.services.list(filters={"name": "sdk"})))
step("list by label", lambda: named(client.services.list(filters={"label": "a=b"})))
step("list by two labels", lambda: named(client.services.list(filters={"label": ["a=b", "c"]})))
step("list with status", lambda: sorted(client.api.services(status=True)[0]["ServiceStatus"]))
step("no status unless asked for", lambda: "ServiceStatus" in client.api.services()[0])
step("tasks", lambda: sorted(task["Slot"] for task in client.services.get("sdk").tasks()))
step("task states are desired", lambda: sorted({t["DesiredState"] for t in client.services.get("sdk").tasks()}))
step("scale", lambda: retried(lambda: client.services.get("sdk").scale(1)))
step("update", lambda: retried(lambda: client.services.get("sdk").update(labels={"c": "d"}, fetch_current_spec=True)))
step("labels after it", lambda: client.services.get("sdk").attrs["Spec"]["Labels"])
step("image kept", lambda: client.services.get("sdk").attrs["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"])
step("force update", lambda: retried(lambda: client.services.get("sdk").force_update()))
step("stale update", lambda: client.api.update_service("sdk", 1, name="sdk", task_template={"ContainerSpec": {"Image": IMAGE}}))
step("create again", lambda: client.services.create(IMAGE, name="sdk").name)
step("get nobody", lambda: client.services.get("nobody").name)
step("remove", lambda: client.services.get("sdk").remove())
step("list after it", lambda: named(client.services.list()))
step("nodes", lambda: sorted(node.attrs["Description"]["Hostname"] for node in client.nodes.list()))
step("managers", lambda: len(client.nodes.list(filters={"role": "manager"})))
step("node attrs", lambda: client.nodes.get("h1").attrs)


def relabel():
    node = client.nodes.get("h1")
    spec = dict(node.attrs["Spec"], Labels={"sdk": "yes"})
    node.update(spec)
    node.reload()
    return node.attrs["Spec"] == spec


step("node update is echoed", relabel)
step("remove self", lambda: client.api.remove_node(client.info()["Swarm"]["NodeID"]))
step("swarm attrs", lambda: sorted(client.swarm.attrs or client.swarm.reload() or client.swarm.attrs))
step("swarm version", lambda: isinstance(client.swarm.version, int))
step("join tokens", lambda: sorted(client.swarm.attrs["JoinTokens"]))
step("swarm init", lambda: client.swarm.init())
step("unlock key", lambda: client.swarm.get_unlock_key())
step("leave", lambda: client.swarm.leave())
step("info", lambda: {key: client.info()["Swarm"][key] for key in ("ControlAvailable", "Nodes", "Managers", "LocalNodeState", "Error")})
step("secrets", lambda: client.secrets.list(filters={"names": ["none"]}))
step("configs", lambda: client.configs.list(filters={"name": "none"}))
secret = None


def make_secret():
    global secret
    secret = client.secrets.create(name="sdk-key", data=b"correct horse", labels={"a": "b"})
    return secret.name


step("secret create", make_secret)
step("secret create again", make_secret)
step("secret attrs", lambda: client.secrets.get("sdk-key").attrs if secret is None else client.secrets.get(secret.id).attrs)
step("secrets by name", lambda: named(client.secrets.list(filters={"name": "sdk-key"})))
step("secret remove", lambda: secret.remove())
config = None


def make_config():
    global config
    config = client.configs.create(name="sdk-site", data=b"hello")
    return config.name


step("config create", make_config)
step("config attrs", lambda: client.configs.get(config.id).attrs)
step("config remove", lambda: config.remove())
step("secret get", lambda: client.secrets.get("none"))
step("networks", lambda: sorted(network.name for network in client.networks.list(names=["none"])))
