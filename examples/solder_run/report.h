#pragma once
// What solder-run measures, as text: a table of nodes, a Chrome trace; and its progress on a terminal.

#include <solder/solder.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace solder_run {

/// A node's path without its figures: "window kernel, 128x32, 2 stages; then a pass" -> "window kernel; then
/// a pass".
std::string short_path(const std::string& path);

/// What names of equally many parts share, with * for what they do not: "layer1.*.conv2", "conv2d_*".
std::string common_name(const std::vector<std::string>& names);

/// The table that --profile prints. Nodes that do the same, by kind, result, bytes, flops and path, and have names
/// of equally many parts are one line: the common name, how many, and their time, bound, bytes and flops together; the
/// last line is all of them. Of more than ten lines the kinds follow, each all of its nodes, and the ten lines that take
/// the most time beyond their bound.
std::string profile_table(const solder::Profile& profile);

/// "y float32 [2, 8]: min -0.3, max 4, mean 1.2; 0.1 0.2 0.3 0.4 ...": a CPU tensor at a glance, with a word
/// on NaN and infinity where there are any.
std::string summary(const std::string& name, const solder::Tensor& tensor);

/// What to say before `num_runs` runs of a model on the CPU that take over 10 seconds, going by the time of a small
/// convolution here and now; empty when they do not, and on a GPU.
std::string long_run_warning(const solder::Model& model, int num_runs);

/// Something that this program did, in milliseconds since it started.
struct HostSpan {
  std::string name;
  double start_ms = 0, end_ms = 0;
};

/// A trace in Chrome's JSON format: one track for the host and one for the session's stream, on which every
/// run's nodes follow one another. `profile_start_ms` is when Session::profile() was called.
std::string chrome_trace(const std::string& graph, solder::Device device, const std::vector<HostSpan>& host,
                         const solder::Profile& profile, double profile_start_ms);

/// Phases of the program: each is shown on a terminal while it lasts and becomes a span of the trace.
class Progress {
 public:
  /// `before` is what each line of say() starts with.
  explicit Progress(std::string before = "") : before_(std::move(before)) {}

  double now_ms() const {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_).count();
  }

  void begin(const std::string& phase) {
    end();
    spans_.push_back({phase, now_ms(), 0});
    open_ = true;
    show(phase);
  }

  void step(int done, int of) const { show(solder::str(spans_.back().name, " ", done, " of ", of)); }

  void end() {
    if (open_) spans_.back().end_ms = now_ms();
    open_ = false;
    clear();
  }

  /// A line of output, which on a terminal must not be written behind what show() left there.
  void say(const std::string& line) const {
    clear();
    std::cout << before_ << line << std::endl;
  }

  const std::vector<HostSpan>& spans() const { return spans_; }

 private:
  void clear() const {
    if (on_terminal_) std::fputs("\r\033[K", stderr);
  }

  void show(const std::string& text) const {
    if (on_terminal_) std::fprintf(stderr, "\r\033[Ksolder-run: %s", text.c_str());
  }

  std::string before_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  bool on_terminal_ = isatty(STDERR_FILENO) != 0;
  bool open_ = false;
  std::vector<HostSpan> spans_;
};

}  // namespace solder_run
