#include <algorithm>
#include <iomanip>
#include <vector>

#include "pictures.h"
#include "text_line.h"

namespace solder_run {
namespace {

using solder::Node;
using solder::NodeKind;
using solder::Placement;
using solder::str;

std::string xml(const std::string& text) {
  std::string result;
  for (const char c : printable(text)) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else if (c == '"')
      result += "&quot;";
    else
      result += c;
  }
  return result;
}

// At most so many from the end of `text`, which is UTF-8, in whole characters.
std::string last_bytes(const std::string& text, size_t most) {
  size_t start = text.size() - std::min(text.size(), most);
  while (start < text.size() && (static_cast<uint8_t>(text[start]) & 0xc0u) == 0x80u) ++start;
  return text.substr(start);
}

// A value's box: columns [first, last] of the picture, offsets in bytes.
struct Box {
  std::string name;
  int64_t offset_bytes = 0, size_bytes = 0;
  double first_column = 0, last_column = 0;
  const char* color = "";
};

constexpr const char* kPinned = "#bcd4ee";
constexpr const char* kIntermediate = "#d5e8c8";
constexpr const char* kWorkspace = "#e4e0d8";

constexpr double kLeft = 92, kTop = 74, kHeight = 320;
constexpr double kCharWidth = 6.4;  // of 11 px Helvetica, on the generous side

class MemoryPicture {
 public:
  explicit MemoryPicture(const solder::Model& model) : model_(model), plan_(model.memory()) {
    const auto& nodes = model.graph().nodes();
    size_t longest = 0;
    for (size_t i = 0; i < nodes.size(); ++i) {
      column_of_.push_back(static_cast<double>(names_.size()));  // of the first node at or after i that runs
      if (nodes[i].kind == NodeKind::input || nodes[i].kind == NodeKind::parameter) continue;
      names_.push_back(nodes[i].name);
      longest = std::max(longest, nodes[i].name.size());
    }
    column_of_.push_back(static_cast<double>(names_.size()));
    const double num_columns = static_cast<double>(std::max<size_t>(names_.size(), 1));
    column_width_ = std::clamp(640 / num_columns, 14.0, 220.0);
    width_ = std::max(520.0, num_columns * column_width_);
    column_width_ = width_ / num_columns;
    rotated_ = kCharWidth * static_cast<double>(longest) > column_width_;
    label_space_ = rotated_ ? 130 : 52;
    collect();
  }

  std::string svg(const std::string& title) {
    const double total_width = kLeft + width_ + 24, total_height = kTop + kHeight + label_space_;
    out_ << std::fixed << std::setprecision(1);
    out_ << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" << total_width << "\" height=\""
         << total_height << "\" viewBox=\"0 0 " << total_width << ' ' << total_height
         << "\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"11\">\n"
         << "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
    text(kLeft, 24, title, "start", "font-size=\"16\"");
    text(kLeft, 44,
         str("a session's memory: ", human_bytes(plan_.arena_bytes()), " in one arena; weights take ",
             human_bytes(model_.weights_bytes()), " more"),
         "start", "fill=\"#505050\"");
    double x = kLeft;
    for (const auto& [color, name] : {std::pair{kPinned, "input or output, kept from run to run"},
                                      {kIntermediate, "intermediate"},
                                      {kWorkspace, "workspace"}}) {
      rectangle(x, 54, 10, 10, color, "");
      text(x + 14, 63, name, "start", "fill=\"#505050\"");
      x += 30 + kCharWidth * static_cast<double>(std::string(name).size());
    }
    axes();
    for (const Box& box : boxes_) draw(box);
    out_ << "</svg>\n";
    return out_.str();
  }

 private:
  void collect() {
    const auto& nodes = model_.graph().nodes();
    const double last = std::max(0.0, static_cast<double>(names_.size()) - 1);
    for (size_t i = 0; i < nodes.size(); ++i) {
      for (size_t output = 0; output < plan_.values[i].size(); ++output) {
        const Placement& p = plan_.values[i][output];
        if (p.offset_bytes < 0) continue;
        Box box{output == 0 ? nodes[i].name : str(nodes[i].name, ":", output), p.offset_bytes, p.size_bytes};
        bool pinned = nodes[i].kind == NodeKind::input;
        for (const auto& [name, value] : model_.graph().outputs())
          pinned |= value == solder::Value{static_cast<int>(i), static_cast<int>(output)};
        box.color = pinned ? kPinned : kIntermediate;
        box.last_column = last;
        if (!pinned) {
          box.first_column = column_of_[static_cast<size_t>(p.first_node)];
          box.last_column = column_of_[static_cast<size_t>(p.last_node)];
        }
        boxes_.push_back(box);
      }
      const int64_t workspace_bytes = model_.nodes()[i].workspace_bytes;
      if (workspace_bytes > 0)
        boxes_.push_back(
            {"workspace", plan_.values_bytes, workspace_bytes, column_of_[i], column_of_[i], kWorkspace});
    }
  }

  double y_of(int64_t offset_bytes) const {
    const double total = static_cast<double>(std::max<int64_t>(plan_.arena_bytes(), 1));
    return kTop + kHeight * (1 - static_cast<double>(offset_bytes) / total);
  }

  void axes() {
    for (int tick = 0; tick <= 4; ++tick) {
      const int64_t bytes = plan_.arena_bytes() / 4 * tick;
      const double y = y_of(bytes);
      out_ << "<line x1=\"" << kLeft << "\" y1=\"" << y << "\" x2=\"" << kLeft + width_ << "\" y2=\"" << y
           << "\" stroke=\"#e0e0e0\"/>\n";
      text(kLeft - 8, y + 4, human_bytes(bytes), "end", "fill=\"#505050\"");
    }
    for (size_t i = 0; i < names_.size(); ++i) {
      const double x = kLeft + column_width_ * (static_cast<double>(i) + 0.5), y = kTop + kHeight + 16;
      const std::string& name = names_[i];
      if (!rotated_) {
        text(x, y, name, "middle", "");
      } else {
        const std::string cut = name.size() > 16 ? "…" + last_bytes(name, 15) : name;
        text(x + 4, y, cut, "end", str("transform=\"rotate(-60 ", x + 4, " ", y, ")\""));
      }
    }
    text(kLeft + width_ / 2, kTop + kHeight + label_space_ - 12, "nodes, in the order they run →", "middle",
         "fill=\"#505050\"");
  }

  void draw(const Box& box) {
    // In place: the operand gives way to the result in the middle of the node that makes it.
    double begin = box.first_column, end = box.last_column + 1;
    for (const Box& other : boxes_) {
      if (&other == &box || other.offset_bytes != box.offset_bytes) continue;
      if (other.last_column == box.first_column && other.first_column < box.first_column)
        begin = box.first_column + 0.5;
      if (other.first_column == box.last_column && other.last_column > box.last_column)
        end = box.last_column + 0.5;
    }
    const double x = kLeft + column_width_ * begin, width = column_width_ * (end - begin);
    const double y = y_of(box.offset_bytes + box.size_bytes);
    const double height = std::max(1.5, y_of(box.offset_bytes) - y);
    const std::string full = box.name + " " + human_bytes(box.size_bytes);
    rectangle(x, y, width, height, box.color, full);
    const auto fits = [&](const std::string& label) {
      return height >= 13 && kCharWidth * static_cast<double>(label.size()) < width - 4;
    };
    if (fits(full))
      text(x + width / 2, y + height / 2 + 4, full, "middle", "");
    else if (fits(box.name))
      text(x + width / 2, y + height / 2 + 4, box.name, "middle", "");
  }

  void rectangle(double x, double y, double width, double height, const char* fill,
                 const std::string& title) {
    out_ << "<rect x=\"" << x << "\" y=\"" << y << "\" width=\"" << width << "\" height=\"" << height
         << "\" fill=\"" << fill << "\" stroke=\"#606060\" stroke-width=\"0.7\">";
    if (!title.empty()) out_ << "<title>" << xml(title) << "</title>";
    out_ << "</rect>\n";
  }

  void text(double x, double y, const std::string& what, const char* anchor, const std::string& attributes) {
    out_ << "<text x=\"" << x << "\" y=\"" << y << "\" text-anchor=\"" << anchor << "\" " << attributes << ">"
         << xml(what) << "</text>\n";
  }

  const solder::Model& model_;
  const solder::MemoryPlan& plan_;
  std::vector<std::string> names_;  // of the nodes that run, which are the columns
  std::vector<double> column_of_;
  std::vector<Box> boxes_;
  double column_width_ = 0, width_ = 0, label_space_ = 0;
  bool rotated_ = false;  // the names of the columns
  solder::TextStream out_;
};

}  // namespace

std::string human_bytes(int64_t bytes) {
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(units); ++unit) value /= 1024;
  return str(std::setprecision(value < 1000 ? 3 : 4), value, " ", units[unit]);
}

std::string memory_svg(const solder::Model& model, const std::string& title) {
  return MemoryPicture(model).svg(title);
}

}  // namespace solder_run
