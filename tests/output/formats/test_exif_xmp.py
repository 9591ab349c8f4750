"""The XMP packet is XML that holds the texts as they are."""

from pathlib import Path
from xml.etree import ElementTree

from format_samples import TEXTS

from linfusion_cli.output.formats.exif_xmp import NAMESPACE, record_text, xmp_packet


def test_the_packet_is_xml_with_the_texts(tmp_path: Path) -> None:
    packet = xmp_packet(TEXTS)
    root = ElementTree.fromstring(packet.decode())
    assert root.find(f".//{{{NAMESPACE}}}record").text == TEXTS["linfusion"]  # type: ignore[union-attr]
    words = [item.text for item in root.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li")]
    assert words == [TEXTS["parameters"]] * 2
    path = tmp_path / "a.xmp"
    path.write_bytes(packet)
    assert record_text(path) == TEXTS["linfusion"]


def test_no_packet_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(3 << 20))
    assert record_text(path) is None
