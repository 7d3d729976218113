# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, embedsignature=False
"""Compiled twin of ``eval_lib.reference``: rows of distances through ``csrc/rank.hpp`` without the GIL.

Called by ``eval_lib`` alone, which has checked shapes and dtypes; the few checks here keep a wrong call from reading
outside its arrays. Typed memoryviews only, so that one file serves every Python from 3.11 on and every NumPy.
"""

from libc.stdint cimport int64_t


cdef extern from "rank.hpp" namespace "reid" nogil:
    cdef struct Gallery:
        const int64_t* pids
        const int64_t* camids
        Py_ssize_t size

    cdef struct NanPosition:
        Py_ssize_t row
        Py_ssize_t column

    # By name: Cython before 3.3 deduces a const type for the template.
    NanPosition rank_floats "reid::rank_rows<float>"(
        const float* distances, Py_ssize_t rows, const Gallery& gallery, const int64_t* q_pids,
        const int64_t* q_camids, bint drop_same_camera, int64_t* counts, double* scores) except +
    NanPosition rank_doubles "reid::rank_rows<double>"(
        const double* distances, Py_ssize_t rows, const Gallery& gallery, const int64_t* q_pids,
        const int64_t* q_camids, bint drop_same_camera, int64_t* counts, double* scores) except +


ctypedef fused real:
    float
    double


cdef tuple _rows(const real[:, ::1] distances, const int64_t[::1] q_pids, const int64_t[::1] g_pids,
                 const int64_t[::1] q_camids, const int64_t[::1] g_camids, bint drop_same_camera,
                 int64_t[:, ::1] counts, double[:, ::1] scores):
    cdef Py_ssize_t rows = distances.shape[0], columns = distances.shape[1]
    cdef Gallery gallery
    cdef NanPosition nan
    if q_pids.shape[0] != rows or q_camids.shape[0] != rows or counts.shape[0] != rows or scores.shape[0] != rows:
        raise ValueError("one pid, camid and row of results a query")
    if g_pids.shape[0] != columns or g_camids.shape[0] != columns:
        raise ValueError("one pid and camid a gallery image")
    if counts.shape[1] != 4 or scores.shape[1] != 3:
        raise ValueError("four counts and three scores a query")
    if rows == 0 or columns == 0:
        raise ValueError("no distances")
    gallery.pids = &g_pids[0]
    gallery.camids = &g_camids[0]
    gallery.size = columns
    with nogil:
        if real is float:
            nan = rank_floats(&distances[0, 0], rows, gallery, &q_pids[0], &q_camids[0], drop_same_camera,
                              &counts[0, 0], &scores[0, 0])
        else:
            nan = rank_doubles(&distances[0, 0], rows, gallery, &q_pids[0], &q_camids[0], drop_same_camera,
                               &counts[0, 0], &scores[0, 0])
    return nan.row, nan.column


def rank_rows_float32(const float[:, ::1] distances, const int64_t[::1] q_pids, const int64_t[::1] g_pids,
                      const int64_t[::1] q_camids, const int64_t[::1] g_camids, bint drop_same_camera,
                      int64_t[:, ::1] counts, double[:, ::1] scores):
    """Fill ``counts`` (first hit, matches, tied, dropped) and ``scores`` (AP, trapezoid AP, INP), a row a query.

    Returns row and column of the first NaN, or (-1, -1).
    """
    return _rows[float](distances, q_pids, g_pids, q_camids, g_camids, drop_same_camera, counts, scores)


def rank_rows_float64(const double[:, ::1] distances, const int64_t[::1] q_pids, const int64_t[::1] g_pids,
                      const int64_t[::1] q_camids, const int64_t[::1] g_camids, bint drop_same_camera,
                      int64_t[:, ::1] counts, double[:, ::1] scores):
    """The same for float64 distances."""
    return _rows[double](distances, q_pids, g_pids, q_camids, g_camids, drop_same_camera, counts, scores)
