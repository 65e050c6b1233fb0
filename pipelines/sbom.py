"""What an image is made of, as CycloneDX: every Python package and every package of the distribution.

CycloneDX's own library would write the same lines and bring six packages with it; none is needed to write JSON.
https://cyclonedx.org/docs/1.6/json/ says what the fields mean, https://github.com/package-url/purl-spec what a purl is.
"""

import re
import uuid
from typing import Any
from urllib.parse import quote

# Runs inside the image, which has Python but nothing to list packages with.
QUESTION = """
import json, pathlib, shutil, subprocess
from importlib import metadata
fields = ("Name", "Version", "License-Expression", "License", "Summary")
python = [{field: found.metadata.get(field) for field in fields} for found in metadata.distributions()]
ask = ["dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture}\\\\n"]
debian = subprocess.run(ask, capture_output=True, text=True).stdout.splitlines() if shutil.which(ask[0]) else []
report = json.loads(pathlib.Path("/app/image.json").read_text())
print(json.dumps({"python": python, "debian": debian, "report": report}))
"""


def bill(image: str, identity: str, found: dict[str, Any]) -> dict[str, Any]:
    """A CycloneDX 1.6 document; the same image gives the same document.

    Args:
        image: Its name and tag.
        identity: The engine's hash of it.
        found: What QUESTION printed inside it.
    """
    components = {each["purl"]: each for each in map(_python, found["python"])}
    components |= {each["purl"]: each for each in map(_debian, found["debian"])}
    name, _, version = image.rpartition(":")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, identity).urn,
        "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": identity, "name": name, "version": version}},
        "components": [components[purl] for purl in sorted(components)],
    }


def _python(package: dict[str, str | None]) -> dict[str, Any]:
    name, version = package["Name"] or "", package["Version"] or ""
    purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{quote(version, safe='')}"
    made: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if expression := package["License-Expression"]:
        made["licenses"] = [{"expression": expression}]
    elif (text := (package["License"] or "").strip()) and "\n" not in text:  # some put the licence's whole text there
        made["licenses"] = [{"license": {"name": text}}]
    return made | ({"description": package["Summary"]} if package["Summary"] else {})


def _debian(line: str) -> dict[str, Any]:
    name, version, architecture = line.split()
    purl = f"pkg:deb/debian/{quote(name, safe='')}@{quote(version, safe='')}?arch={architecture}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
