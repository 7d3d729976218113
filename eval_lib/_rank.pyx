# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, embedsignature=False
"""Compiled twin of ``eval_lib.reference``: rows of distances through ``csrc/rank.hpp`` without the GIL.

Called by ``eval_lib`` alone, which has checked shapes and dtypes; the few checks here keep a wrong call from reading
outside its arrays. Typed memoryviews only, so that one file serves every Python from 3.11 on and every NumPy.
"""

from libc.stdint cimport int64_t
from libcpp cimport bool as cbool


cdef extern from "rank.hpp" namespace "reid" nogil:
    ctypedef enum Isa "reid::Isa":
        pass
    cdef int num_isas
    cbool isa_available(Isa isa)
    const char* isa_name(Isa isa)

    cdef cppclass CGallery "reid::Gallery":
        CGallery()
        CGallery(const int64_t* pids, const int64_t* camids, Py_ssize_t size) except +
        Py_ssize_t size()

    cdef struct BadPosition:
        Py_ssize_t row
        Py_ssize_t column

    # By name: Cython before 3.3 deduces a const type for the template.
    BadPosition rank_floats "reid::rank_rows<float>"(
        const float* distances, Py_ssize_t rows, const CGallery& gallery, const int64_t* q_pids,
        const int64_t* q_camids, bint drop_same_camera, Isa isa, int64_t* counts, double* scores) except +
    BadPosition rank_doubles "reid::rank_rows<double>"(
        const double* distances, Py_ssize_t rows, const CGallery& gallery, const int64_t* q_pids,
        const int64_t* q_camids, bint drop_same_camera, Isa isa, int64_t* counts, double* scores) except +


cdef extern from "count_tile.hpp" namespace "reid" nogil:
    cbool c_count_tile "reid::count_tile"(
        const float* tile, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t width, const int64_t* low,
        const int64_t* high, const float* thresholds, const int64_t* starts, Isa isa, int64_t* between,
        int64_t* tied) except +


ctypedef fused real:
    float
    double


def isas():
    """Instruction sets that this processor has and this module was compiled for: number by name, the best one last."""
    cdef int k
    return {isa_name(<Isa>k).decode(): k for k in range(num_isas) if isa_available(<Isa>k)}


cdef class Gallery:
    """Gallery images by identity; read-only, so that threads may share it."""

    cdef CGallery by_pid

    def __init__(self, const int64_t[::1] pids, const int64_t[::1] camids):
        cdef Py_ssize_t size = pids.shape[0]
        if size == 0 or camids.shape[0] != size:
            raise ValueError("one pid and camid a gallery image, and at least one image")
        with nogil:
            self.by_pid = CGallery(&pids[0], &camids[0], size)

    def rank_float32(self, const float[:, ::1] distances, const int64_t[::1] q_pids, const int64_t[::1] q_camids,
                     bint drop_same_camera, int isa, int64_t[:, ::1] counts, double[:, ::1] scores):
        """Fill ``counts`` (first hit, matches, tied, dropped) and ``scores`` (AP, trapezoid AP, INP), a row a query.

        ``isa`` is a number of ``isas()``. Returns row and column of the first NaN or infinity, or (-1, -1).
        """
        return _rows[float](self, distances, q_pids, q_camids, drop_same_camera, isa, counts, scores)

    def rank_float64(self, const double[:, ::1] distances, const int64_t[::1] q_pids, const int64_t[::1] q_camids,
                     bint drop_same_camera, int isa, int64_t[:, ::1] counts, double[:, ::1] scores):
        """The same for float64 distances."""
        return _rows[double](self, distances, q_pids, q_camids, drop_same_camera, isa, counts, scores)


cdef tuple _rows(Gallery gallery, const real[:, ::1] distances, const int64_t[::1] q_pids,
                 const int64_t[::1] q_camids, bint drop_same_camera, int isa, int64_t[:, ::1] counts,
                 double[:, ::1] scores):
    cdef Py_ssize_t rows = distances.shape[0]
    cdef BadPosition bad
    if q_pids.shape[0] != rows or q_camids.shape[0] != rows or counts.shape[0] != rows or scores.shape[0] != rows:
        raise ValueError("one pid, camid and row of results a query")
    if distances.shape[1] != gallery.by_pid.size() or rows == 0 or gallery.by_pid.size() == 0:
        raise ValueError("one column of distances a gallery image, and at least one row")
    if counts.shape[1] != 4 or scores.shape[1] != 3:
        raise ValueError("four counts and three scores a query")
    if isa < 0 or isa >= num_isas or not isa_available(<Isa>isa):
        raise ValueError("an instruction set that this machine lacks")
    with nogil:
        if real is float:
            bad = rank_floats(&distances[0, 0], rows, gallery.by_pid, &q_pids[0], &q_camids[0], drop_same_camera,
                              <Isa>isa, &counts[0, 0], &scores[0, 0])
        else:
            bad = rank_doubles(&distances[0, 0], rows, gallery.by_pid, &q_pids[0], &q_camids[0], drop_same_camera,
                               <Isa>isa, &counts[0, 0], &scores[0, 0])
    return bad.row, bad.column


def count_tile(const float[:, ::1] tile, Py_ssize_t width, const int64_t[::1] low, const int64_t[::1] high,
               const float[::1] thresholds, const int64_t[::1] starts, int isa, int64_t[::1] between,
               int64_t[::1] tied):
    """Add to ``between`` and ``tied`` what the first columns of a tile show; False if one is NaN or infinite.

    ``tile`` is (R, C), of which ``width`` columns count; ``low`` and ``high`` (R,); ``starts`` (R + 1,) into the others.
    """
    cdef Py_ssize_t rows = low.shape[0], i
    cdef int64_t before = 0
    cdef cbool fine = True
    if rows == 0 or thresholds.shape[0] == 0 or width == 0:
        return True
    if tile.shape[0] < rows or tile.shape[1] < width or high.shape[0] != rows or starts.shape[0] != rows + 1:
        raise ValueError("a row of the tile, a range and a start a query")
    if between.shape[0] != thresholds.shape[0] or tied.shape[0] != thresholds.shape[0]:
        raise ValueError("two counts a threshold")
    if isa < 0 or isa >= num_isas or not isa_available(<Isa>isa):
        raise ValueError("an instruction set that this machine lacks")
    for i in range(rows):
        if low[i] < 0 or high[i] < low[i] or high[i] > width:
            raise ValueError("ranges must lie in the tile")
        if starts[i] < before or starts[i + 1] < starts[i] or starts[i + 1] > thresholds.shape[0]:
            raise ValueError("starts must ascend within the thresholds")
        before = starts[i]
    with nogil:
        fine = c_count_tile(&tile[0, 0], tile.shape[1], rows, width, &low[0], &high[0], &thresholds[0], &starts[0],
                            <Isa>isa, &between[0], &tied[0])
    return fine
