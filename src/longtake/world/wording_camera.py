"""How camera moves and shot sizes are said; {it} stands for the subject named before."""

from longtake.world.wording import CameraWording, Family


def _pan(way: str) -> CameraWording:
    return CameraWording(
        Family(
            (
                f"the camera pans {way}",
                f"the camera pans to the {way}",
                f"the camera turns to the {way}",
                f"the shot pans {way}",
                f"we pan {way}",
            ),
            (f"we pan to the {way}", f"the camera pans {way}ward"),
        ),
        Family(
            (f"pan {way}", f"camera pans {way}", f"panning {way}", f"pan to the {way}"),
            (f"panning to the {way}",),
        ),
        Family(("the camera pans with {it}", "the camera follows {it}", "panning with {it}")),
    )


def _truck(way: str) -> CameraWording:
    return CameraWording(
        Family(
            (
                f"the camera trucks {way}",
                f"the camera tracks {way}",
                f"the camera trucks to the {way}",
                f"the camera slides {way}",
                f"the camera moves sideways to the {way}",
            ),
            (f"the camera tracks to the {way}", f"the camera slides sideways to the {way}"),
        ),
        Family(
            (f"truck {way}", f"camera trucks {way}", f"trucking {way}", f"truck to the {way}"),
            (f"trucking to the {way}",),
        ),
        Family(("the camera trucks with {it}", "the camera tracks along with {it}")),
    )


def _tilt(way: str, goal: str) -> CameraWording:
    return CameraWording(
        Family(
            (
                f"the camera tilts {way}",
                f"the camera tilts toward the {goal}",
                f"the shot tilts {way}",
            ),
            (f"the shot tilts toward the {goal}",),
        ),
        Family((f"tilt {way}", f"camera tilts {way}", f"tilting {way}"), (f"tilt {way} shot",)),
    )


def _roll(way: str, sense: str) -> CameraWording:
    return CameraWording(
        Family(
            (
                f"the camera rolls to the {way}",
                f"the camera rolls {sense}",
                f"the shot rolls {way}",
            ),
            (f"the shot rolls {sense}",),
        ),
        Family((f"roll {way}", f"camera rolls {way}", f"camera roll {sense}"), (f"roll {sense}",)),
    )


def _pedestal(way: str, straight: str, level: str) -> CameraWording:
    return CameraWording(
        Family(
            (
                f"the camera pedestals {way}",
                f"the camera moves {straight}",
                f"the camera moves {level} without turning",
            ),
            (f"the shot moves {straight}",),
        ),
        Family((f"pedestal {way}", f"camera pedestals {way}", f"camera {straight}")),
    )


def _zoom(way: str, length: str) -> CameraWording:
    return CameraWording(
        Family(
            (
                f"the camera zooms {way}",
                f"the lens zooms {way}",
                f"the focal length gets {length}",
            ),
            (f"the shot zooms {way}",),
        ),
        Family((f"zoom {way}", f"camera zooms {way}", f"zooming {way}"), (f"zoom {way} shot",)),
    )


CAMERA_WORDS = {
    "static": CameraWording(
        Family(
            (
                "the camera does not move",
                "the camera is static",
                "the camera stays still",
                "the camera is locked-off",
                "the shot is static",
                "the camera stays in place",
            ),
            ("the shot does not move", "the shot is locked-off"),
        ),
        Family(
            (
                "static camera",
                "static shot",
                "locked-off camera",
                "locked-off shot",
                "camera static",
            ),
            ("locked-off static shot",),
        ),
    ),
    "pan_left": _pan("left"),
    "pan_right": _pan("right"),
    "dolly_in": CameraWording(
        Family(
            (
                "the camera dollies in",
                "the camera pushes in",
                "the camera moves closer",
                "the camera moves in",
                "the camera moves forward",
                "the shot pushes in",
            ),
            ("the camera dollies forward", "the camera comes closer"),
        ),
        Family(
            ("dolly in", "push in", "camera dollies in", "camera pushes in", "camera moves closer"),
            ("camera moves forward",),
        ),
    ),
    "dolly_out": CameraWording(
        Family(
            (
                "the camera dollies out",
                "the camera pulls back",
                "the camera pulls out",
                "the camera moves back",
                "the camera backs away",
                "the shot pulls out",
            ),
            ("the camera dollies back", "the shot pulls back"),
        ),
        Family(
            ("dolly out", "pull back", "camera dollies out", "camera pulls back", "pull out"),
            ("camera pulls out",),
        ),
    ),
    "truck_left": _truck("left"),
    "truck_right": _truck("right"),
    "orbit": CameraWording(
        Family(
            (
                "the camera orbits",
                "the camera orbits around the scene",
                "the camera circles around the scene",
                "the camera circles the scene",
                "the camera moves around the scene",
                "the shot orbits around",
            ),
            ("the camera orbits the scene", "the shot circles around the scene"),
        ),
        Family(
            ("orbit", "orbit shot", "camera orbits", "orbiting camera", "camera circles the scene"),
            ("orbiting shot",),
        ),
    ),
    "crane_up": CameraWording(
        Family(
            (
                "the camera cranes up",
                "the camera rises",
                "the camera moves up",
                "the camera goes up",
                "the shot cranes up",
                "the camera rises up",
            ),
            ("the shot rises up", "the shot rises"),
        ),
        Family(
            ("crane up", "crane shot up", "camera cranes up", "camera rises", "rising camera"),
            ("camera rises up",),
        ),
    ),
    "crane_down": CameraWording(
        Family(
            ("the camera cranes down", "the camera sinks", "the shot cranes down"),
            ("the shot sinks",),
        ),
        Family(("crane down", "crane shot down", "camera cranes down", "camera sinks")),
    ),
    "tilt_up": _tilt("up", "sky"),
    "tilt_down": _tilt("down", "ground"),
    "roll_left": _roll("left", "counterclockwise"),
    "roll_right": _roll("right", "clockwise"),
    "pedestal_up": _pedestal("up", "straight up", "higher"),
    "pedestal_down": _pedestal("down", "straight down", "lower"),
    "zoom_in": _zoom("in", "longer"),
    "zoom_out": _zoom("out", "shorter"),
    "follow": CameraWording(
        Family(
            (
                "the camera keeps pace with {it}",
                "the camera goes along with {it}",
                "a tracking shot of {it}",
            ),
            ("the shot keeps pace with {it}",),
        ),
        Family(("tracking shot", "following shot", "camera keeps pace"), ("following camera",)),
    ),
}

SHOT_WORDS = {
    "wide": Family(("wide shot", "long shot")),
    "very_wide": Family(("very wide shot", "extreme wide shot"), ("extreme long shot",)),
    "medium": Family(("medium shot", "mid shot")),
    "close": Family(("close-up", "close shot"), ("close-up shot",)),
}
