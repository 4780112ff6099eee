"""The records of a run: what a training leaves behind beside the model."""

from dataclasses import dataclass, field

__all__ = ["EpochRecord", "History", "NonFiniteLossError"]


@dataclass(frozen=True)
class EpochRecord:
    """The state after an epoch, measured with the masks switched off.

    Attributes:
        epoch: how many epochs are over.
        train_loss: on the training images, with the labels given to the model.
        train_accuracy: likewise.
        validation_loss: on the validation images, whose labels carry no noise.
        validation_accuracy: likewise.
        memorised: the share of the replaced training labels that the model predicts,
            wrong as they are. None without label noise.
        recovered: the share of them where it predicts the true label instead.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    memorised: float | None = None
    recovered: float | None = None


@dataclass
class History:
    """What happened in a run; printed, a table of the epochs.

    Attributes:
        step_loss: the loss of each training step, with the masks switched on.
        epochs: the records of the epochs.
    """

    step_loss: list[float] = field(default_factory=list)
    epochs: list[EpochRecord] = field(default_factory=list)

    def __str__(self) -> str:
        noisy = any(r.memorised is not None for r in self.epochs)
        lines = [
            "       training       validation" + "      wrong labels" * noisy,
            "epoch   loss   acc.    loss   acc." + "  memorised  recovered" * noisy,
        ]
        for r in self.epochs:
            line = f"{r.epoch:5d} {r.train_loss:6.3f}  {r.train_accuracy:.3f}"
            line += f"  {r.validation_loss:6.3f}  {r.validation_accuracy:.3f}"
            if r.memorised is not None and r.recovered is not None:
                line += f"  {r.memorised:9.2f}  {r.recovered:9.2f}"
            lines.append(line)
        return "\n".join(lines)


class NonFiniteLossError(RuntimeError):
    """The loss is infinite or no number.

    Attributes:
        step: the number of the step, from 1.
        last_loss: the last finite training loss, or None if there was none.
    """

    def __init__(
        self, what: str, loss: float, step: int, last_loss: float | None
    ) -> None:
        self.step = step
        self.last_loss = last_loss
        last = "none before it was finite"
        if last_loss is not None:
            last = f"the last finite training loss was {last_loss:.6g}"
        super().__init__(
            f"the {what} loss is {loss} at step {step}; {last}. "
            "A lower learning rate or a longer warm-up may help"
        )
