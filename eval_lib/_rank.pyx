# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, embedsignature=False
"""Compiled twin of ``eval_lib.reference``: rows of distances through ``csrc/rank.hpp`` without the GIL.

Called by ``eval_lib`` alone, which has checked shapes and dtypes; the few checks here keep a wrong call from reading
outside its arrays. Typed memoryviews only, so that one file serves every Python from 3.11 on and every NumPy.
"""

from libc.stdint cimport int64_t


cdef extern from "rank.hpp" namespace "reid" nogil:
    cdef struct QueryRank:
        int64_t first_hit
        int64_t num_matches
        int64_t num_tied
        int64_t num_dropped
        double ap
        double ap_trapezoid
        double inp

    cdef struct Gallery:
        const int64_t* pids
        const int64_t* camids
        Py_ssize_t size

    cdef cppclass RankScratch[Real]:
        RankScratch() except +

    Py_ssize_t first_nan[Real](const Real* distances, Py_ssize_t size)
    QueryRank rank_query[Real](const Real* distances, const Gallery& gallery, int64_t pid, int64_t camid,
                               bint drop_same_camera, RankScratch[Real]& scratch) except +


ctypedef fused real:
    float
    double


cdef (Py_ssize_t, Py_ssize_t) _rows(const real[:, ::1] distances, const int64_t[::1] q_pids, const int64_t[::1] g_pids,
                                    const int64_t[::1] q_camids, const int64_t[::1] g_camids, bint drop_same_camera,
                                    int64_t[:, ::1] counts, double[:, ::1] scores) except *:
    cdef Py_ssize_t rows = distances.shape[0], columns = distances.shape[1], i, column
    cdef Gallery gallery
    cdef QueryRank one
    cdef RankScratch[real] scratch
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
        for i in range(rows):
            column = first_nan(&distances[i, 0], columns)
            if column >= 0:
                return i, column
            one = rank_query(&distances[i, 0], gallery, q_pids[i], q_camids[i], drop_same_camera, scratch)
            counts[i, 0] = one.first_hit
            counts[i, 1] = one.num_matches
            counts[i, 2] = one.num_tied
            counts[i, 3] = one.num_dropped
            scores[i, 0] = one.ap
            scores[i, 1] = one.ap_trapezoid
            scores[i, 2] = one.inp
    return -1, -1


def rank_rows_float32(const float[:, ::1] distances, const int64_t[::1] q_pids, const int64_t[::1] g_pids,
                      const int64_t[::1] q_camids, const int64_t[::1] g_camids, bint drop_same_camera,
                      int64_t[:, ::1] counts, double[:, ::1] scores):
    """Fill ``counts`` and ``scores``, a row a query; returns row and column of the first NaN, or (-1, -1)."""
    return _rows[float](distances, q_pids, g_pids, q_camids, g_camids, drop_same_camera, counts, scores)


def rank_rows_float64(const double[:, ::1] distances, const int64_t[::1] q_pids, const int64_t[::1] g_pids,
                      const int64_t[::1] q_camids, const int64_t[::1] g_camids, bint drop_same_camera,
                      int64_t[:, ::1] counts, double[:, ::1] scores):
    """The same for float64 distances."""
    return _rows[double](distances, q_pids, g_pids, q_camids, g_camids, drop_same_camera, counts, scores)
