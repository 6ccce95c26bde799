"""The model, whose two feet grip alike since v5."""

from puffer_il.native.mujoco_assets import model


def load(xml_file: str, version: str, **others: object) -> dict[str, object]:
    return {"model": model("walker2d_v5.xml" if version == "v5" else "walker2d.xml", xml_file)}
