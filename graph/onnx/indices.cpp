// Rows of operators that pick or replace slices by indices, which are known at import.

#include <numeric>

#include "graph/onnx/import.h"
#include "runtime/check.h"

namespace solder {
namespace {

// Input 1, tuples of k indices of the first k axes of input 0, as indices of these axes as one.
struct Places {
  std::vector<int64_t> rows;
  Shape leading;  // of the tuples
  Shape slice;    // what each stands for
  int64_t num_rows = 1;
};

Places places_of(OnnxCall& call) {
  const OnnxConstant& indices = call.constant(1);
  const Shape& x = call.shape(0);
  SOLDER_REQUIRE(!indices.is_real() && !indices.shape.empty(), io, "the indices are ",
                 to_string(indices.type), " ", to_string(indices.shape));
  const int64_t count = indices.shape.back();
  SOLDER_REQUIRE(count > 0 && count <= std::ssize(x), io, "indices of ", count, " axes of ", to_string(x));
  const auto middle = x.begin() + count;
  Places places{{}, {indices.shape.begin(), indices.shape.end() - 1}, {middle, x.end()}};
  places.num_rows = num_elements(Shape(x.begin(), middle));
  for (size_t at = 0; at < indices.ints.size(); at += static_cast<size_t>(count)) {
    int64_t row = 0;
    for (size_t axis = 0; axis < static_cast<size_t>(count); ++axis) {
      const int64_t index = indices.ints[at + axis];
      SOLDER_REQUIRE(index >= -x[axis] && index < x[axis], io, "index ", index, " of axis ", axis, " of ",
                     to_string(x));
      row = row * x[axis] + (index < 0 ? index + x[axis] : index);
    }
    places.rows.push_back(row);
  }
  return places;
}

Value as_rows(OnnxCall& call, size_t i, int64_t num_rows, const Shape& slice) {
  return call.reshape(call.value_beside(i, 0), {num_rows, num_elements(slice)});
}

void gather_nd(OnnxCall& call) {
  call.only("batch_dims", 0);
  const Places places = places_of(call);
  Shape shape = places.leading;
  shape.insert(shape.end(), places.slice.begin(), places.slice.end());
  const Value rows = as_rows(call, 0, places.num_rows, places.slice);
  call.give_moved(call.reshape(call.graph().gather(rows, 0, places.rows), shape));
}

// Rows of x or, behind them, of the updates; of several for one place the last stands.
void scatter_nd(OnnxCall& call) {
  const std::string reduction = call.text("reduction", "none");
  ONNX_REQUIRE(reduction == "none", "reduction = ", reduction);
  const Places places = places_of(call);
  Shape updates = places.leading;
  updates.insert(updates.end(), places.slice.begin(), places.slice.end());
  SOLDER_REQUIRE(call.shape(2) == updates, io, "updates are ", to_string(call.shape(2)), ", not ",
                 to_string(updates));
  std::vector<int64_t> from(static_cast<size_t>(places.num_rows));
  std::iota(from.begin(), from.end(), 0);
  for (size_t i = 0; i < places.rows.size(); ++i)
    from[static_cast<size_t>(places.rows[i])] = places.num_rows + static_cast<int64_t>(i);
  const Value both =
      call.graph().concat({as_rows(call, 0, places.num_rows, places.slice),
                           as_rows(call, 2, static_cast<int64_t>(places.rows.size()), places.slice)},
                          0);
  call.give_moved(call.reshape(call.graph().gather(both, 0, from), call.shape(0)));
}

constexpr OnnxRow kRows[] = {
    {"GatherND", "x indices", "batch_dims:12-", gather_nd},
    {"ScatterND", "x indices updates", "reduction:16-", scatter_nd},
};

}  // namespace

const std::span<const OnnxRow> kIndexRows = kRows;

}  // namespace solder
