"""The domains of the `streets` renderer: every setting in which they differ.

A pair (a, b) is a range from which each scene draws uniformly, unless its comment says otherwise.
"""

from typing import NamedTuple

Range = tuple[float, float]


class Details(NamedTuple):
    """What photographs show beyond the plain looks; a domain has all of it or nothing."""

    # Objects.
    bare: Range  # share of trees without leaves
    evergreen: Range  # share of conifers and the like
    wires: float  # share of scenes with wires over the street
    wide: float  # share of scenes with a wide junction
    lots: float  # share of street sides with a car park behind the pavement
    clothes: Range  # factor on the brightness of clothes
    paint: Range  # factor on the brightness of cars
    # Ground.
    wear: Range  # strength of patches, tyre tracks, stains
    bluish: Range  # tint of asphalt
    warm: Range  # tint of pavements
    alike: float  # share of scenes whose pavement is as dark as the road
    # Light.
    sky_gain: Range  # brightness of the sky beside that of the ground, log-uniform
    pale: Range  # 0: blue sky; 1: white
    occlusion: Range  # darkness of corners and of the ground under things
    gloss: Range  # strength of reflections in glass, paint and on the road
    grey_noise: float  # share of the noise that is equal in the three channels


class Domain(NamedTuple):
    """What differs between the domains; layout, objects and shapes are shared."""

    # Camera.
    camera_height: Range  # metres
    camera_pitch: Range  # degrees, upwards
    camera_yaw: Range  # degrees, to the left
    camera_roll: Range
    field_of_view: Range  # degrees, horizontal
    # Objects: mean number or share per scene.
    road_half_width: Range  # metres
    left_hand_traffic: float  # share of scenes
    built_up: Range  # share of the street's sides that is built up to the pavement
    floors: tuple[int, int]
    parked_cars: Range  # share of the kerb that is occupied
    moving_cars: float
    heavy_vehicles: float  # probability of a lorry, and of a bus
    riders: float
    parked_two_wheelers: float
    people: float
    trees: Range  # share of possible places
    leaf_density: Range  # 2 is a full crown, 0.3 a bare one
    # Palette.
    vivid: Range  # saturation of paint, clothes and signs
    foliage_hue: Range  # degrees
    foliage_saturation: Range
    foliage_value: Range
    wall_saturation: float  # factor on the colours of buildings
    road_value: Range  # brightness of asphalt
    pavement_value: Range
    # Surfaces and light.
    texture: Range  # strength of world-anchored texture, 0 is flat
    sunny: float  # share of scenes with direct sun
    shadow: Range  # darkness of cast shadows in sunny scenes, 0 is none
    contact: float  # darkness under and around objects, 0 is none
    ambient: Range  # share of skylight in all light, in sunny scenes
    sun_height: Range  # degrees above the horizon
    haze: Range  # visibility in metres (contrast falls to 1/e), log-uniform
    cloud: Range  # cloudiness of the sky
    # Camera and film.
    metering: float  # 1: each image exposed to the same mean; 0: same exposure for all
    exposure: Range  # stops
    temperature: Range  # white balance, + is warm
    tint: Range  # white balance, + is magenta
    saturation: Range
    contrast: Range
    blur: Range  # sigma in pixels at width 256; scales with the root of the width
    noise: Range  # standard deviation of the sensor noise, for values 0..1
    vignette: Range  # darkening in the corners
    details: Details | None = None


RENDERED = Domain(
    camera_height=(1.3, 2.0),
    camera_pitch=(-5.0, 2.5),
    camera_yaw=(-5.0, 5.0),
    camera_roll=(-0.5, 0.5),
    field_of_view=(54.0, 84.0),
    road_half_width=(4.0, 7.5),
    left_hand_traffic=0.1,
    built_up=(0.2, 0.75),
    floors=(2, 9),
    parked_cars=(0.0, 0.65),
    moving_cars=3.5,
    heavy_vehicles=0.45,
    riders=1.6,
    parked_two_wheelers=1.5,
    people=7.0,
    trees=(0.15, 0.6),
    leaf_density=(1.3, 2.2),
    vivid=(0.8, 1.1),
    foliage_hue=(85.0, 130.0),
    foliage_saturation=(0.45, 0.7),
    foliage_value=(0.3, 0.55),
    wall_saturation=1.0,
    road_value=(0.3, 0.42),
    pavement_value=(0.55, 0.7),
    texture=(0.0, 0.0),
    sunny=1.0,
    shadow=(0.0, 0.0),
    contact=0.3,
    ambient=(0.55, 0.65),
    sun_height=(35.0, 65.0),
    haze=(400.0, 2000.0),
    cloud=(0.0, 0.5),
    metering=0.0,
    exposure=(-0.1, 0.1),
    temperature=(-0.03, 0.05),
    tint=(-0.02, 0.02),
    saturation=(1.0, 1.15),
    contrast=(1.0, 1.05),
    blur=(0.25, 0.35),
    noise=(0.0, 0.0),
    vignette=(0.0, 0.0),
)

PHOTOGRAPHIC = Domain(
    camera_height=(1.15, 1.6),
    camera_pitch=(-3.0, 4.0),
    camera_yaw=(-7.0, 7.0),
    camera_roll=(-1.5, 1.5),
    field_of_view=(48.0, 72.0),
    road_half_width=(3.6, 7.0),
    left_hand_traffic=0.5,
    built_up=(0.15, 0.85),
    floors=(2, 5),
    parked_cars=(0.0, 0.8),
    moving_cars=3.0,
    heavy_vehicles=0.4,
    riders=1.8,
    parked_two_wheelers=2.5,
    people=9.0,
    trees=(0.2, 0.8),
    leaf_density=(0.5, 1.9),
    vivid=(0.4, 0.85),
    foliage_hue=(55.0, 125.0),
    foliage_saturation=(0.22, 0.58),
    foliage_value=(0.26, 0.52),
    wall_saturation=0.75,
    road_value=(0.26, 0.48),
    pavement_value=(0.38, 0.62),
    texture=(0.8, 1.5),
    sunny=0.65,
    shadow=(0.7, 0.95),
    contact=0.6,
    ambient=(0.28, 0.5),
    sun_height=(22.0, 60.0),
    haze=(80.0, 700.0),
    cloud=(0.2, 1.0),
    metering=0.6,
    exposure=(-0.7, 0.6),
    temperature=(-0.14, 0.14),
    tint=(-0.04, 0.04),
    saturation=(0.55, 0.95),
    contrast=(0.95, 1.3),
    blur=(0.3, 0.8),
    noise=(0.01, 0.035),
    vignette=(0.05, 0.35),
)

# Lessons from CamVid: with a single exposure and grey of asphalt, a network learns that dark and
# low means car, and labels shaded road as car. CamVid also has bare trees and overcast skies.
RENDERED_VARIED = RENDERED._replace(
    exposure=(-1.4, 0.5),
    temperature=(-0.12, 0.08),
    road_value=(0.14, 0.42),
    pavement_value=(0.3, 0.7),
    foliage_saturation=(0.1, 0.7),
    leaf_density=(0.3, 2.2),
    cloud=(0.0, 1.0),
)

# The labelled source for real photographs: wide ranges instead of one exact imitation. They were
# set by looking at photographs of CamVid's training split and at the colours of its classes there
# (mean and deviation in Lab, share of pixels). Its other splits were not looked at.
PHOTOGRAPHIC_VARIED = PHOTOGRAPHIC._replace(
    camera_height=(1.1, 2.1),
    camera_pitch=(-4.0, 4.0),
    camera_yaw=(-12.0, 12.0),
    field_of_view=(44.0, 82.0),
    built_up=(0.3, 0.95),
    road_half_width=(3.4, 7.5),
    floors=(1, 5),
    heavy_vehicles=0.15,
    moving_cars=3.5,
    riders=0.8,
    people=8.0,
    parked_two_wheelers=1.5,
    trees=(0.3, 1.1),
    foliage_hue=(45.0, 120.0),
    foliage_saturation=(0.1, 0.55),
    foliage_value=(0.18, 0.5),
    wall_saturation=0.7,
    road_value=(0.2, 0.5),
    pavement_value=(0.26, 0.62),
    texture=(0.2, 0.8),
    sunny=0.6,
    ambient=(0.15, 0.45),
    sun_height=(10.0, 55.0),
    haze=(150.0, 1500.0),
    cloud=(0.0, 1.0),
    metering=0.7,
    exposure=(-1.2, 0.9),
    temperature=(-0.1, 0.1),
    saturation=(0.6, 1.1),
    contrast=(0.95, 1.3),
    blur=(0.05, 0.45),
    noise=(0.0, 0.013),
    vignette=(0.0, 0.3),
    details=Details(
        bare=(0.0, 1.0),
        evergreen=(0.05, 0.4),
        wires=0.25,
        wide=0.25,
        lots=0.2,
        clothes=(0.2, 1.0),
        paint=(0.35, 1.0),
        wear=(0.2, 1.2),
        bluish=(0.0, 0.1),
        warm=(-0.03, 0.08),
        alike=0.4,
        sky_gain=(0.8, 5.0),
        pale=(0.2, 1.0),
        occlusion=(0.3, 0.9),
        gloss=(0.5, 1.6),
        grey_noise=0.7,
    ),
)

DOMAINS = {
    "rendered": RENDERED,
    "photographic": PHOTOGRAPHIC,
    "rendered_varied": RENDERED_VARIED,
    "photographic_varied": PHOTOGRAPHIC_VARIED,
}
