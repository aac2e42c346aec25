#include "graph/region.h"

#include "ops/elementwise/program.h"

#include "runtime/check.h"

namespace solder {
namespace {

std::string to_string(const Arg& arg) {
  switch (arg.kind) {
    case Arg::Kind::none: return "";
    case Arg::Kind::result: return "result";
    case Arg::Kind::operand: return str("%", arg.index);
    case Arg::Kind::expr: return str("e", arg.index);
    case Arg::Kind::immediate: return str(arg.value);
  }
  return "";
}

}  // namespace

std::string to_string(const Region& region) {
  std::string text;
  for (size_t i = 0; i < region.exprs.size(); ++i) {
    const Expr& expr = region.exprs[i];
    text += str(i ? "; " : "", "e", i, " = ", to_string(expr.op), "(", to_string(expr.a));
    if (expr.b.kind != Arg::Kind::none) text += str(", ", to_string(expr.b));
    text += params_text(expr.op, expr.p, expr.q, ", ") + ")";
  }
  text += " ->";
  for (const Arg& output : region.outputs) text += " " + to_string(output);
  return text;
}

}  // namespace solder
