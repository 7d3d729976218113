"""Calls the losses' kernels of csrc/cuda on the processor, with tensors; see test_loss_kernels.py."""

import ctypes

import torch


class Kernels:
    """One compiled library; ``seed`` is the order of threads and blocks of the next calls."""

    def __init__(self, path):
        self.run = ctypes.CDLL(str(path)).run_loss
        self.seed = 0

    def call(self, op, logits, tensors, weights=(), wide_targets=False):
        """``tensors`` in the order of the op's arguments; ``None`` is a null pointer."""
        pointers = (ctypes.c_void_p * len(tensors))(*(None if t is None else t.data_ptr() for t in tensors))
        strides = (ctypes.c_int64 * len(tensors))(*(0 if t is None or t.dim() == 0 else t.stride(0) for t in tensors))
        message = ctypes.create_string_buffer(400)
        self.run(
            op.encode(), str(logits.dtype).removeprefix("torch.").encode(), ctypes.c_bool(wide_targets),
            ctypes.c_uint64(self.seed), ctypes.c_int64(len(logits)), ctypes.c_int64(logits.shape[1]), pointers, strides,
            (ctypes.c_double * 3)(*weights, *[0.0] * (3 - len(weights))), message, len(message),
        )  # fmt: skip
        assert message.value == b"", message.value.decode()

    def co_refine_pair(self, a, b, weights, one_sided=False):
        losses, statistics = unwritten(2, len(a), dtype=loss_type(a)), unwritten(2, len(a), 3)
        self.call("co_refine", a, [a, b, losses[0], None if one_sided else losses[1], statistics], weights)
        return losses[:1] if one_sided else losses, statistics

    def co_refine_backward(self, grad, logits, peer, statistics, learner, weights):
        gradient = unwritten(*logits.shape, dtype=logits.dtype)
        arrays = [logits, peer, statistics[learner], statistics[1 - learner], grad, gradient]
        self.call("co_refine_backward", logits, arrays, weights)
        return gradient

    def cross_entropy(self, logits, labels, shift, weights):
        loss, statistics = unwritten(len(logits), dtype=loss_type(logits)), unwritten(len(logits), 3)
        self.call("cross_entropy", logits, [logits, labels, shift, loss, statistics], weights)
        return loss, statistics

    def cross_entropy_backward(self, grad, logits, labels, shift, statistics, weights):
        gradient = unwritten(*logits.shape, dtype=logits.dtype)
        self.call("cross_entropy_backward", logits, [logits, labels, shift, statistics, grad, gradient], weights)
        return gradient

    def soft_target(self, logits, targets):
        loss, statistics = unwritten(len(logits), dtype=loss_type(logits)), unwritten(len(logits), 3)
        wide = targets.dtype != logits.dtype
        self.call("soft_target", logits, [logits, targets, loss, statistics], wide_targets=wide)
        return loss, statistics

    def soft_target_backward(self, grad, logits, targets, statistics):
        gradient = unwritten(*logits.shape, dtype=logits.dtype)
        wide = targets.dtype != logits.dtype
        self.call("soft_target_backward", logits, [logits, targets, statistics, grad, gradient], wide_targets=wide)
        return gradient

    def confidence_penalty(self, logits):
        loss, statistics = unwritten(len(logits), dtype=loss_type(logits)), unwritten(len(logits), 3)
        self.call("confidence_penalty", logits, [logits, loss, statistics])
        return loss, statistics

    def confidence_penalty_backward(self, grad, logits, statistics):
        gradient = unwritten(*logits.shape, dtype=logits.dtype)
        self.call("confidence_penalty_backward", logits, [logits, statistics, grad, gradient])
        return gradient

    def peer_statistics(self, a, b, labels):
        losses = unwritten(2, len(a), dtype=loss_type(a))
        predictions = torch.full((2, len(a)), -9)
        self.call("peer_statistics", a, [a, b, labels, losses, predictions])
        return losses, predictions

    def find_wrong_label(self, labels, classes):
        """Row and label of the first that no class has, or -1 and 0."""
        found = torch.full((2,), -9)
        self.call("find_wrong_label", torch.empty(len(labels), classes), [labels, found])
        return found.tolist()


def loss_type(logits):
    return torch.promote_types(logits.dtype, torch.float32)


def unwritten(*shape, dtype=torch.float64):
    """A value that no loss has."""
    return torch.full(shape, -12345.0, dtype=dtype)
