"""The model."""

from puffer_il.native.mujoco_assets import model


def load(xml_file: str, **others: object) -> dict[str, object]:
    return {"model": model("swimmer.xml", xml_file)}
