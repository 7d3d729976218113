# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, embedsignature=False
"""Products of all pairs of rows through ``csrc/product.hpp``, whose bits depend on the pair alone, without the GIL.

Called by ``reid_core.metrics._tiles``, which has checked shapes and dtypes; the few checks here keep a wrong call from
reading outside its arrays. Typed memoryviews only, so that one file serves every Python from 3.11 on and every NumPy.
"""

from libc.stdint cimport int64_t
from libcpp cimport bool as cbool


cdef extern from "product.hpp" namespace "reid" nogil:
    ctypedef enum Isa "reid::Isa":
        pass
    cdef int num_isas
    cbool isa_available(Isa isa)
    const char* isa_name(Isa isa)
    cdef Py_ssize_t left_panel
    cdef Py_ssize_t right_panel_float "reid::right_panel<float>"
    cdef Py_ssize_t right_panel_double "reid::right_panel<double>"
    void pack_floats "reid::pack_rows<float>"(
        const float* table, Py_ssize_t stride, const int64_t* rows, Py_ssize_t count, Py_ssize_t depth,
        const float* factors, Py_ssize_t width, float* out)
    void pack_doubles "reid::pack_rows<double>"(
        const double* table, Py_ssize_t stride, const int64_t* rows, Py_ssize_t count, Py_ssize_t depth,
        const double* factors, Py_ssize_t width, double* out)
    void multiply_floats "reid::multiply<float>"(
        const float* left, Py_ssize_t rows, const float* right, Py_ssize_t columns, Py_ssize_t depth, float* out,
        Py_ssize_t stride, Isa isa)
    void multiply_doubles "reid::multiply<double>"(
        const double* left, Py_ssize_t rows, const double* right, Py_ssize_t columns, Py_ssize_t depth, double* out,
        Py_ssize_t stride, Isa isa)


def isas():
    """As ``_rank.isas``."""
    cdef int k
    return {isa_name(<Isa>k).decode(): k for k in range(num_isas) if isa_available(<Isa>k)}


def panel_widths(int itemsize):
    """Rows side by side in a panel of a left and of a right side, for float32 (``itemsize`` 4) or float64 (8)."""
    return left_panel, right_panel_float if itemsize == 4 else right_panel_double


def pack_float32(const float[:, :] table, const int64_t[::1] rows, const float[::1] factors, float[:, :, ::1] out):
    """Fill ``out``, (panels, D, width), with the rows of ``table``, (N, D), at ``rows``, each times its factor, then zeros."""
    _check_packing(table.shape[0], table.shape[1], table.strides[1], table.strides[0], 4, rows, factors.shape[0],
                   out.shape[0], out.shape[1], out.shape[2])
    if rows.shape[0]:
        with nogil:
            pack_floats(&table[0, 0], table.strides[0] // 4, &rows[0], rows.shape[0], table.shape[1], &factors[0],
                        out.shape[2], &out[0, 0, 0])


def pack_float64(const double[:, :] table, const int64_t[::1] rows, const double[::1] factors, double[:, :, ::1] out):
    """The same in float64."""
    _check_packing(table.shape[0], table.shape[1], table.strides[1], table.strides[0], 8, rows, factors.shape[0],
                   out.shape[0], out.shape[1], out.shape[2])
    if rows.shape[0]:
        with nogil:
            pack_doubles(&table[0, 0], table.strides[0] // 8, &rows[0], rows.shape[0], table.shape[1], &factors[0],
                         out.shape[2], &out[0, 0, 0])


cdef int _check_packing(Py_ssize_t size, Py_ssize_t depth, Py_ssize_t step, Py_ssize_t stride, Py_ssize_t itemsize,
                        const int64_t[::1] rows, Py_ssize_t factors, Py_ssize_t panels, Py_ssize_t out_depth,
                        Py_ssize_t width) except -1:
    cdef Py_ssize_t i
    if depth == 0 or step != itemsize or stride % itemsize != 0:
        raise ValueError("the numbers of a row must be neighbours")
    if factors != rows.shape[0] or out_depth != depth or width == 0 or panels * width < rows.shape[0] \
            or (panels - 1) * width >= rows.shape[0]:
        raise ValueError("a factor and a place a row")
    for i in range(rows.shape[0]):
        if rows[i] < 0 or rows[i] >= size:
            raise ValueError("rows must lie in the table")
    return 0


def multiply_float32(const float[:, :, ::1] left, Py_ssize_t rows, const float[:, :, ::1] right, Py_ssize_t columns,
                     int isa, float[:, ::1] out):
    """Fill ``out[:rows, :columns]`` with the products of all pairs of rows of two packed sides."""
    _check_product(left.shape[0], left.shape[1], left.shape[2], rows, right.shape[0], right.shape[1], right.shape[2],
                   columns, right_panel_float, isa, out.shape[0], out.shape[1])
    if rows and columns:
        with nogil:
            multiply_floats(&left[0, 0, 0], rows, &right[0, 0, 0], columns, left.shape[1], &out[0, 0], out.shape[1],
                            <Isa>isa)


def multiply_float64(const double[:, :, ::1] left, Py_ssize_t rows, const double[:, :, ::1] right, Py_ssize_t columns,
                     int isa, double[:, ::1] out):
    """The same in float64."""
    _check_product(left.shape[0], left.shape[1], left.shape[2], rows, right.shape[0], right.shape[1], right.shape[2],
                   columns, right_panel_double, isa, out.shape[0], out.shape[1])
    if rows and columns:
        with nogil:
            multiply_doubles(&left[0, 0, 0], rows, &right[0, 0, 0], columns, left.shape[1], &out[0, 0], out.shape[1],
                             <Isa>isa)


cdef int _check_product(Py_ssize_t left_panels, Py_ssize_t depth, Py_ssize_t left_width, Py_ssize_t rows,
                        Py_ssize_t right_panels, Py_ssize_t right_depth, Py_ssize_t right_width, Py_ssize_t columns,
                        Py_ssize_t wanted, int isa, Py_ssize_t out_rows, Py_ssize_t out_columns) except -1:
    if isa < 0 or isa >= num_isas or not isa_available(<Isa>isa):
        raise ValueError("an instruction set that this machine lacks")
    if depth != right_depth or depth == 0 or left_width != left_panel or right_width != wanted:
        raise ValueError("two sides packed for each other")
    if rows < 0 or columns < 0 or left_panels * left_width < rows or right_panels * right_width < columns:
        raise ValueError("as many rows as were packed, at most")
    if out_rows < rows or out_columns < columns:
        raise ValueError("room for every product")
    return 0
