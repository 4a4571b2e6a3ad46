"""Phase retrieval: an image from the intensities of its Fourier transforms behind known masks.

Wirtinger flow (Candes, Li and Soltanolkotabi, IEEE Transactions on Information Theory, 2015): steps downhill on the
squared errors of the intensities, in the complex image itself, which is found but for one phase of all.
"""

import numpy as np


def intensities(image, masks):
    """What a detector measures behind each mask."""
    return np.abs(np.fft.fft2(masks * image, norm="ortho")) ** 2


def error(image, masks, measured):
    return np.mean((intensities(image, masks) - measured) ** 2)


def retrieve(grad, image, masks, measured, steps=300, rate=0.1):
    """The image after so many steps from a first guess; it moves by the conjugate of the gradient."""
    slope = grad(error)
    size = np.mean(measured)
    for _ in range(steps):
        image = image - rate * image.size / size * np.conj(slope(image, masks, measured))
    return image


def distance(image, truth):
    """How far an image is from the true one, but for one phase of all, relative to its size."""
    phase = np.vdot(image, truth)
    return np.linalg.norm(image * phase / np.abs(phase) - truth) / np.linalg.norm(truth)
