"""The number formats of the decoder: every fixed-point constant that both wings must agree on."""

from __future__ import annotations

from dataclasses import dataclass, replace

LATENT_MAX = 255  # latents saturate to [-255, 255]
CONTEXT_FRAC = 7  # ARM activations: Q7, so that +-255 fits in int16
CONTEXT_ACT_MAX = (1 << 15) - 1

MU_FRAC = 4  # location of the Laplace distribution in 1/16
SCALE_STEPS_PER_NAT = 8  # log-scale in 1/8 nat
LOG_SCALE_MIN = -5
LOG_SCALE_MAX = 5
NUM_SCALES = (LOG_SCALE_MAX - LOG_SCALE_MIN) * SCALE_STEPS_PER_NAT + 1
LOG_SCALE_OFFSET = -4  # added to the ARM's second output: zero weights mean narrow distributions
FREQ_BITS = 16  # frequencies of one CDF row add up to 2^16

MIN_FEATURE_EXPONENT = 6
MAX_PARAM = (1 << 20) - 1  # |q| of a coded parameter
ACC32_MAX = (1 << 31) - 1
ACC64_MAX = (1 << 62) - 1


@dataclass(frozen=True)
class Numerics:
    """Formats of the picture path: features and synthesis activations saturate to +-act_max.

    `feature_frac` and `synth_frac` are fraction bits, `acc_max` bounds every accumulator. A network
    chooses its own `feature_frac`: NARROW and WIDE have the smallest, which holds every latent.
    """

    feature_frac: int
    synth_frac: int
    act_max: int
    acc_max: int

    def with_features(self, exponent: int) -> Numerics:
        """These formats with features in +-2^(15 - exponent), exponent >= MIN_FEATURE_EXPONENT."""
        return replace(self, feature_frac=exponent + self.synth_frac - NARROW.synth_frac)

    @property
    def feature_limit(self) -> float:
        """Largest feature value, as training sees it."""
        return self.act_max / (1 << self.feature_frac)

    @property
    def synth_limit(self) -> float:
        """Largest synthesis activation, as training sees it."""
        return self.act_max / (1 << self.synth_frac)


NARROW = Numerics(feature_frac=6, synth_frac=11, act_max=(1 << 15) - 1, acc_max=ACC32_MAX)
WIDE = Numerics(feature_frac=14, synth_frac=19, act_max=(1 << 23) - 1, acc_max=ACC64_MAX)


def numerics_for_depth(coded_depth: int) -> Numerics:
    """Formats for samples of `coded_depth` bits: int32 sums to 10 bits, int64 above."""
    return NARROW if coded_depth <= 10 else WIDE
