#include "text_graph.h"

namespace solder_run {
namespace {

constexpr const char* kGrammar = R"(A graph as text: one node a line, `#` starts a comment.

  input NAME SHAPE [DTYPE] [layout=LAYOUT]   a tensor given with --input
  parameter NAME SHAPE [DTYPE]      a tensor of the --weights file, found there by NAME
  NAME = OP ARGUMENT... [KEY=VALUE...]
  output NAME [TENSOR] [layout=LAYOUT]   makes NAME a result, or TENSOR under that name

NAME: what checkpoints call their tensors: anything visible but `#`, `=` and `,`. Each is given once, before it is
used. An argument is the tensor of that name where there is one, otherwise a number: with a parameter called `2`,
`add x 2` adds that parameter and `add x 2.0` the number. Blanks around `,` and `=` mean nothing.
SHAPE: extents with commas, as in 1,3,224,224; `scalar` has none.  DTYPE: float32 (default), float16, bfloat16.
LAYOUT: nchw (default) or channels_last, of four extents: the bytes lie N,H,W,C, and the shape is N,C,H,W still.

OP, with its arguments; keys with a value here have it when they are not given:
  conv2d X W [BIAS]    X [N,C,H,W], W [K,C/groups,R,S], BIAS [K]; stride=1 dilation=1 (one number or h,w),
                       padding=0 (one number, h,w or top,left,bottom,right), groups=1
  conv_transpose2d X W [BIAS]   W [C,K/groups,R,S]; the same, and output_padding=0
  matmul A B           linear X W [BIAS]: X times W transposed
  reshape X shape=2,-1,4 (-1: what is left, 0: as in X, none: a scalar)   flatten X from_axis=1
  squeeze X [axes=0,2]   unsqueeze X axes=0,2   permute X axes=0,2,1   per_channel X: [C] read as [C,1,1]
  expand X shape=4,-1,8   tile X repeats=2,1
  slice X axis=A       start=0 stop=END step=1: indices of one axis, as in Python
  concat X... axis=A   gather X axis=A indices=0,2,-1
  max_pool2d X kernel=K   avg_pool2d X kernel=K: stride=KERNEL padding=0 dilation=1 ceil_mode=0; the second
                       count_include_pad=1
  global_avg_pool X   global_max_pool X
  mean X   sum X   reduce_max X   reduce_min X: axes=ALL keep_dims=0     softmax X   log_softmax X: axis=-1
  resize X size=H,W    or scale=2 (one number or h,w); mode=nearest or bilinear, rounding=floor, ceil,
                       round_prefer_floor or round_prefer_ceil, coordinates=half_pixel, half_pixel_symmetric,
                       pytorch_half_pixel, align_corners or asymmetric
  pad X before=0,1 after=0,1   mode=constant, reflect or edge; value=0; interior=0,2: so many fillers between
                       neighbours of an axis
  depth_to_space X block=B   crd=0     space_to_depth X block=B
  batch_norm X WEIGHT BIAS MEAN VARIANCE   layer_norm X WEIGHT BIAS num_axes=1
  group_norm X WEIGHT BIAS groups=G: eps=1e-5     lrn X size=S   alpha=1e-4 beta=0.75 bias=1
  where CONDITION A B   greater A B   greater_equal A B   cast X dtype=float16
)";

}  // namespace

std::string grammar() {
  std::string text = kGrammar;
  const auto list = [&](auto belongs, const char* arguments) {
    std::string line;
    for (const solder::OpInfo& info : solder::kOps) {
      if (!info.is_callable || !belongs(info)) continue;
      std::string call = info.name;
      if (info.num_params() > 0) call += " X";
      for (int i = 0; i < info.num_params(); ++i) {
        const solder::OpParam& param = info.params[i];
        call +=
            solder::str(" ", param.name, "=", param.is_required() ? "NUMBER" : solder::str(param.fallback));
      }
      if (line.size() + call.size() > 95) text += "  " + line + "\n", line.clear();
      line += (line.empty() ? "" : info.num_params() > 0 ? "   " : " ") + call;
    }
    text += "  " + line + arguments + "\n";
  };
  list([](const auto& info) { return is_binary(info.op); },
       "   A B, with numpy's broadcasting; one of them may be a number");
  list([](const auto& info) { return is_unary(info.op) && info.num_params() == 0; }, "   X");
  list([](const auto& info) { return info.num_params() > 0; }, "");
  return text;
}

}  // namespace solder_run
