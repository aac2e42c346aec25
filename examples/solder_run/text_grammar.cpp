#include "text_graph.h"

namespace solder_run {
namespace {

constexpr const char* kGrammar = R"(A graph as text: one node a line, `#` starts a comment.

  input NAME SHAPE [DTYPE]          a tensor given with --input
  parameter NAME SHAPE [DTYPE]      a tensor of the --weights file, found there by NAME
  NAME = OP ARGUMENT... [KEY=VALUE...]
  output NAME                       makes NAME a result

NAME: what checkpoints call their tensors: anything visible but `#`, `=` and `,`. Each is given once, before it is
used. An argument is the tensor of that name where there is one, otherwise a number: with a parameter called `2`,
`add x 2` adds that parameter and `add x 2.0` the number. Blanks around `,` and `=` mean nothing.
SHAPE: extents with commas, as in 1,3,224,224; `scalar` has none.  DTYPE: float32 (default), float16, bfloat16.

OP, with its arguments:
  conv2d X W [BIAS]    X [N,C,H,W], W [K,C/groups,R,S], BIAS [K]; stride=1 dilation=1 (one number or h,w),
                       padding=0 (one number, h,w or top,left,bottom,right), groups=1
  matmul A B           linear X W [BIAS]: X times W transposed
  slice X axis=A       start=0 stop=END step=1: indices of one axis, as in Python
  cast X dtype=float16
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
