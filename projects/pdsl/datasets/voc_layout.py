"""Files of a VOCdevkit, read alike for training and testing: image sets, images and objects."""

from __future__ import annotations

import os
import re
from xml.etree import ElementTree

from projects.common.errors import InputError
from projects.common.files.annotation_files import read_xml, shown
from projects.common.files.images import IMAGE_SUFFIXES

from ..image_sets import read_image_names

__all__ = ['ImageFinder', 'read_image_set', 'read_objects']

_SUFFIX = '(' + '|'.join(map(re.escape, IMAGE_SUFFIXES)) + ')'
# Lists for semantic segmentation: '/JPEGImages/2007_000032.jpg /SegmentationClass/2007_000032.png'
_PAIR = re.compile(rf'(\S+{_SUFFIX})\s+\S+{_SUFFIX}', re.IGNORECASE)


def read_image_set(
    path: str | os.PathLike,
    data_root: str | os.PathLike = '',
    exclude: str | None = None,
    folder: str = 'JPEGImages',
) -> list[str]:
    """Return the names in an image set, minus those of a second image set.

    A line is a name, which may have blanks. It may be followed by a column of -1, 0 or 1, as in the
    image sets of single classes, which list all images, or by the path of a mask. The name may have
    the suffix of the image, and ``folder`` in front.

    Args:
        path: The image set.
        data_root: Folder of the second image set.
        exclude: The second image set, whose images are left out.
        folder: Name of the folder of images.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: An image is listed twice.
    """
    names: dict[str, None] = {}
    for line in read_image_names(path):
        pair = _PAIR.fullmatch(line)
        name = re.sub(rf'{_SUFFIX}$', '', pair.group(1) if pair else line, flags=re.IGNORECASE)
        if folder:
            name = re.sub(f'^(.*/)?{re.escape(folder)}/', '', name)
        if name in names:
            raise InputError(f'{path}: image {shown(name)} comes twice')
        names[name] = None
    if exclude is None:
        return list(names)
    unwanted = set(read_image_set(os.path.join(data_root, exclude), folder=folder))
    return [name for name in names if name not in unwanted]


class ImageFinder:
    """Find image files by their names without suffix.

    Args:
        folder: Folder of the images.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = os.fspath(folder)
        self._files: dict[str, dict[str, list[str]]] = {}

    def __call__(self, name: str) -> str:
        """Return a name with its suffix: '.jpg', or that of the only image file of this name.

        Args:
            name: Path relative to the folder, without the suffix.

        Raises:
            ValueError: There are several such files, and none has the suffix '.jpg'.
        """
        usual = f'{name}.jpg'
        if os.path.isfile(os.path.join(self.folder, usual)):
            return usual
        parent, stem = os.path.split(name)
        found = self._list(parent).get(stem, [])
        if len(found) > 1:
            raise InputError(f'{self.folder}: found both {found[0]} and {found[1]}, expected one')
        return os.path.join(parent, found[0]) if found else usual

    def _list(self, parent: str) -> dict[str, list[str]]:
        """Return the names of the image files in a subfolder, by their stems."""
        if parent not in self._files:
            files: dict[str, list[str]] = {}
            path = os.path.join(self.folder, parent)
            for name in sorted(os.listdir(path)) if os.path.isdir(path) else ():
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in IMAGE_SUFFIXES:
                    files.setdefault(stem, []).append(name)
            self._files[parent] = files
        return self._files[parent]


def read_objects(path: str | os.PathLike, boxes: bool = False) -> ElementTree.Element:
    """Read an annotation, and check and tidy up its objects.

    Names lose blanks around them. ``difficult`` may be missing or empty, which means 0.

    Args:
        path: The XML file.
        boxes: Whether to check the boxes, too. Training on tags does without.

    Returns:
        The root, with ``object`` elements that mmdet can read.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not XML, or an object has no name, no valid ``difficult`` or box.
    """
    root = read_xml(path)
    for number, entry in enumerate(root.findall('object'), 1):
        where = f'{path}: object {number}'
        name = entry.find('name')
        if name is None or not (name.text or '').strip():
            raise InputError(f'{where}: no name')
        name.text = (name.text or '').strip()
        difficult = entry.find('difficult')
        if difficult is not None:
            difficult.text = (difficult.text or '').strip() or '0'
            if difficult.text not in ('0', '1'):
                raise InputError(
                    f'{where}: difficult: expected 0 or 1, found {shown(difficult.text)}'
                )
        for side in ('xmin', 'ymin', 'xmax', 'ymax') if boxes else ():
            value = entry.findtext(f'bndbox/{side}')
            try:
                int(float(value or ''))
            except (ValueError, OverflowError):
                raise InputError(
                    f'{where}: bndbox/{side}: expected a number, found {shown(value)}'
                ) from None
    return root
