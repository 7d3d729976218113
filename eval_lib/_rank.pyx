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
