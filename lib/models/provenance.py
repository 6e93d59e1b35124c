"""What a checkpoint says about how it was trained, and whether that suits the network and codec it is loaded for."""

from pathlib import Path

from easydict import EasyDict

from cvpack.errors import InputError, OtherRun
from lib.config.experiment import NETWORK_FILE, OWN, folder_of
from lib.utils.codec import CODECS


def refuse_other_network(state: dict, cfg: EasyDict | None, path: Path) -> None:
    """Raises OtherRun if a checkpoint says that it is of another network than the one built for it.

    Tensors of the same names and shapes may still compute another function.

    state: of the checkpoint at path; cfg: of the experiment that the network is built for; None: not known
    """
    trained, is_own = network_in(state), cfg is not None and cfg.NETWORK == OWN
    folder = folder_of(cfg) if cfg is not None else None
    if trained is None or (trained == OWN) == is_own:
        return
    if is_own:
        raise OtherRun(
            f'{path} was trained as MSPN, but this experiment has a network of its own: use an experiment without '
            f'{NETWORK_FILE}; a tool needs no --experiment'
        )
    where = 'name its folder with --experiment' if folder is None else f'{folder} has none: put it there'
    raise OtherRun(
        f"{path} holds a network of its experiment's own ({state['config'].get('EXPERIMENT')!r}), "
        f'built by build_model(cfg) in the {NETWORK_FILE} of its folder: {where}'
    )


def remark_other_experiment(state: dict, cfg: EasyDict, path: Path) -> str | None:
    """A warning if a checkpoint was trained as another experiment than the one whose own network is built."""
    name = state['config'].get('EXPERIMENT') if network_in(state) == OWN else cfg.EXPERIMENT
    if name == cfg.EXPERIMENT:
        return None
    return f'{path} was trained as experiment {name!r}; the network is that of {folder_of(cfg)}: is it the same?'


def network_in(state: dict) -> str | None:
    """What a checkpoint says about its network; None in older ones: MSPN, or the network of their experiment."""
    config = state.get('config')
    return config.get('NETWORK') if isinstance(config, dict) else None


def trained_codec(checkpoint: dict) -> str:
    """The codec that a checkpoint's network was trained with; 'standard' for files that do not say."""
    config = checkpoint.get('config')
    return config.get('CODEC', 'standard') if isinstance(config, dict) else 'standard'


def refuse_mixed_lengths(checkpoint: dict, codec: str, file: Path) -> None:
    """Raises InputError if the network was trained with other lengths than the codec's: all joints would be off."""
    trained = trained_codec(checkpoint)
    if trained not in tuple(CODECS) or CODECS[trained].align_corners != CODECS[codec].align_corners:
        raise InputError(
            f'{file} was trained with CODEC {trained!r}, whose lengths do not mix with those of {codec!r}: '
            f'use the experiment it was trained as, or --set CODEC={trained}'
        )
