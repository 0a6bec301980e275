"""Networks in checkpoints: a name of the registry, arguments in plain JSON types, and the package it is from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from infield.core import registry
from infield.core.errors import InfieldError
from infield.priors.networks.patched import Patched


def network_description(network: nn.Module) -> dict[str, Any]:
    """Name and arguments from which `build_network` rebuilds a network, and the package that it is of, if not this one.

    Raises:
        InfieldError: The network is none of those with a name.
    """
    name = registry.name_of("networks", type(network))
    if name is None:
        expected = ", ".join(registry.names("networks"))
        raise InfieldError(where="network of a flow", found=type(network).__name__, expected=f"one of {expected}")
    arguments = dict(network.arguments)  # type: ignore[arg-type]
    if isinstance(network, Patched):
        arguments["network"] = network_description(network.inner)
    package = registry.find("networks", name).package
    of = {} if package == registry.HOUSE else {"package": package}
    return {"name": name, "arguments": arguments, **of}


def build_network(description: Mapping[str, Any]) -> nn.Module:
    """The network that `network_description` describes, untrained.

    Raises:
        InfieldError: It has an unknown name.
    """
    name, package = description["name"], description.get("package")
    if not registry.known("networks", name):
        of = f" of the package {package}, which is not installed" if package else ""
        raise InfieldError(
            where="network", found=f"{name!r}{of}", expected=f"one of {', '.join(registry.names('networks'))}"
        )
    arguments = dict(description["arguments"])
    if isinstance(arguments.get("network"), Mapping):
        arguments["network"] = build_network(arguments["network"])
    network: nn.Module = registry.load("networks", name)(**arguments)
    return network


def with_plugins(provenance: Mapping[str, Any], network: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance of a checkpoint, with the plug-in packages, and their versions, that define its network.

    Arguments:
        provenance: Other entries of the provenance.
        network: As `network_description` returns it.
    """
    packages, inner = {}, network["arguments"].get("network")
    for part in (network, inner if isinstance(inner, Mapping) else {}):
        if "package" in part:
            packages[part["package"]] = registry.find("networks", part["name"]).version
    return {**provenance, "plugins": packages} if packages else dict(provenance)
