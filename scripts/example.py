"""The clip that ships with the package, and the picture of its answer: generated church bells.

The partials of a bell follow Rossing and Perrin, "Vibrations of bells", Applied Acoustics 20 (1987).
"""

from pathlib import Path

import librosa
import numpy as np
import soundfile as sf

from soundclf.core.drawing import PALETTE, new_figure, save_figure
from soundclf.data import draw_mel
from soundclf.tools.classifier import Classifier

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / 'soundclf' / 'examples' / 'church_bells.ogg'
PICTURE = ROOT / 'figures' / 'app' / 'example.png'
RATE = 44100  # Hz
# partial: (frequency as a multiple of the strike note, amplitude, seconds until it has fallen to 1/e)
PARTIALS = [
    (0.5, 1.0, 4.0),
    (1.0, 0.8, 2.5),
    (1.183, 0.6, 2.0),
    (1.506, 0.4, 1.5),
    (2.0, 0.9, 1.2),
    (2.514, 0.4, 0.8),
    (2.662, 0.3, 0.8),
    (3.011, 0.4, 0.6),
    (4.166, 0.3, 0.4),
    (5.433, 0.2, 0.3),
]
STRIKES = [(440, 0.1), (392, 1.3), (440, 2.5), (392, 3.7)]  # strike note in Hz, seconds


def strike(time: np.ndarray, note: float, g: np.random.Generator) -> np.ndarray:
    "One strike of a bell, from time 0 on."
    wave = np.zeros_like(time)
    for multiple, amplitude, decay in PARTIALS:
        phase = 2 * np.pi * note * multiple * time + g.uniform(0, 2 * np.pi)
        wave += amplitude * np.exp(-time / decay) * np.sin(phase)
    return np.where(time >= 0, wave, 0)


def bells(seconds: float = 5.0) -> np.ndarray:
    "Two bells that ring in turn, full scale at 1."
    g, time = np.random.default_rng(0), np.arange(int(seconds * RATE)) / RATE
    wave = sum(strike(time - start, note, g) for note, start in STRIKES)
    return 0.7 * wave / np.abs(wave).max() + 0.001 * g.standard_normal(len(time))


def picture(wave: np.ndarray):
    "The clip as a spectrogram, and what the packaged model makes of it."
    answer = Classifier.load('scratch').predict(CLIP)
    power = librosa.feature.melspectrogram(
        y=wave, sr=RATE, n_fft=2048, hop_length=512, n_mels=128, fmax=16000
    )
    level = librosa.power_to_db(power, ref=np.max)
    fig, (left, right) = new_figure(1, 2, size=(11, 3.6), width_ratios=[1.5, 1])
    image = draw_mel(left, level, len(wave) / RATE, 16000, vmin=-80, vmax=0, cmap='magma')
    left.set(xlabel='time (s)', ylabel='frequency (Hz)', title='church_bells.ogg')
    fig.colorbar(image, ax=left, label='level (dB re maximum)')
    ranked = sorted(answer.probabilities.items(), key=lambda item: item[1])
    colours = ['#bbbbbb'] * (len(ranked) - 1) + [PALETTE[0]]
    right.barh([k for k, _ in ranked], [p for _, p in ranked], color=colours)
    right.set(xlabel='probability', xlim=(0, 1), title=f'answer: {answer.label}')
    save_figure(fig, PICTURE)
    print(answer.label, round(answer.probability, 3))


if __name__ == '__main__':
    wave = bells()
    CLIP.parent.mkdir(parents=True, exist_ok=True)
    with sf.SoundFile(CLIP, 'w', RATE, 1, format='OGG', subtype='VORBIS') as file:
        for start in range(0, len(wave), RATE):  # libsndfile's Vorbis encoder fails on long blocks
            file.write(wave[start : start + RATE])
    picture(wave.astype('float32'))
