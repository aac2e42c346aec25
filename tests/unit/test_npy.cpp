#include <utility>

#include "runtime/npy.h"
#include "tests/cases/format_samples.h"
#include "tests/support/file_testing.h"

namespace solder {
using namespace file_testing;

namespace {

using std::string_view_literals::operator""sv;

Tensor parse(std::string_view bytes) { return parse_npy(as_bytes(bytes)); }

// A version 1.0 file with this header, whatever it says.
std::string npy_file(const std::string& header, std::string_view data) {
  std::string file("\x93NUMPY\x01\x00", 8);
  file += static_cast<char>(header.size() & 255u);
  file += static_cast<char>(header.size() >> 8);
  return file.append(header).append(data);
}

std::string npy_header(const std::string& shape) {
  return "{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }\n";
}

const std::string kEightBytes(8, '\1');

}  // namespace

TEST_CASE("npy: files written by numpy") {
  CHECK(same(parse(samples::kNpyF4), sample_grid(DType::float32)));
  CHECK(same(parse(samples::kNpyF2), sample_grid(DType::float16)));
  CHECK(same(parse(samples::kNpyBf16), sample_grid(DType::bfloat16)));
  CHECK(same(parse(samples::kNpyVersion2), sample_grid(DType::float32)));
  CHECK(same(parse(samples::kNpyVersion3), sample_grid(DType::float32)));

  const Tensor scalar = parse(samples::kNpyScalar);
  CHECK(scalar.shape() == Shape{});
  CHECK(scalar.floats()[0] == 2.5f);
  CHECK(parse(samples::kNpyVector).shape() == Shape{3});
  CHECK(parse(samples::kNpyEmpty).shape() == Shape{0, 4});
}

TEST_CASE("npy: Fortran order is transposed") {
  std::vector<float> values(24);
  for (size_t idx = 0; idx < values.size(); ++idx) values[idx] = static_cast<float>(idx);
  const Tensor cube = Tensor::from({2, 3, 4}, values);
  CHECK(same(parse(samples::kNpyFortran), cube));
  CHECK(same(parse(samples::kNpyFortranF2), cube.to(DType::float16)));

  const std::string header = "{'descr': '<f4', 'fortran_order': True, 'shape': ";
  CHECK(parse(npy_file(header + "(2,)}", kEightBytes)).shape() == Shape{2});
  CHECK(parse(npy_file(header + "(2, 0, 1000)}", "")).shape() == Shape{2, 0, 1000});
}

TEST_CASE("npy: round trip, and the bytes numpy writes") {
  const TempFolder folder;
  const std::string path = folder.path("a.npy");
  for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16}) {
    for (const Shape& shape : {Shape{}, {0}, {1}, {7}, {2, 3}, {2, 0, 4}, {1, 2, 3, 4}, Shape(64, 1)}) {
      CAPTURE(to_string(shape));
      CAPTURE(to_string(dtype));
      const Tensor tensor = counting_tensor(shape, dtype);
      save_npy(path, tensor);
      CHECK(same(load_npy(path), tensor));
      CHECK(read_file(path).find('\n') % 64 == 63);
    }
  }
  const auto saved = [&](const Tensor& tensor) {
    save_npy(path, tensor);
    return read_file(path);
  };
  CHECK(saved(sample_grid(DType::float32)) == samples::kNpyF4);
  CHECK(saved(sample_grid(DType::float16)) == samples::kNpyF2);
  CHECK(saved(sample_grid(DType::bfloat16)) == samples::kNpyBf16);
  CHECK(saved(parse(samples::kNpyScalar)) == samples::kNpyScalar);
  CHECK(saved(parse(samples::kNpyVector)) == samples::kNpyVector);
  CHECK(saved(Tensor::empty({0, 4})) == samples::kNpyEmpty);
  CHECK(folder.list() == std::vector<std::string>{"a.npy"});

  check_error(ErrorKind::unsupported, {"a.npy", "64 axes", "65"},
              [&] { save_npy(path, Tensor::empty(Shape(65, 1))); });
}

TEST_CASE("npy: other dtypes are unsupported, and the message says what to save") {
  const std::pair<std::string_view, std::string_view> cases[] = {{samples::kNpyF8, "<f8"},
                                                                 {samples::kNpyI8, "<i8"},
                                                                 {samples::kNpyBigEndian, ">f4"},
                                                                 {samples::kNpyStructured, "structured"},
                                                                 {samples::kNpyObject, "|O"}};
  for (const auto& pair : cases) {
    const auto& bytes = pair.first;
    const auto& word = pair.second;
    check_error(ErrorKind::unsupported, {"<memory>", word, "float32", "astype"}, [&] { parse(bytes); });
  }
}

TEST_CASE("npy: truncated at every byte, or with bytes too many") {
  for (const std::string_view sample : {samples::kNpyF4, samples::kNpyVersion2, samples::kNpyFortranF2}) {
    for (size_t size = 0; size < sample.size(); ++size) {
      CAPTURE(size);
      const std::string_view word = size < 6 ? "not an .npy file" : "truncated";
      check_error(ErrorKind::io, {"<memory>", word}, [&] { parse(sample.substr(0, size)); });
    }
    for (const size_t extra : {1u, 4u, 4096u}) {
      const std::string longer = std::string(sample) + std::string(extra, '\0');
      check_error(ErrorKind::io, {"<memory>", "trailing bytes"}, [&] { parse(longer); });
    }
  }
}

TEST_CASE("npy: the same through a file") {
  const TempFolder folder;
  const std::string path = folder.path("cut.npy");
  for (const size_t size : {size_t{0}, size_t{5}, size_t{9}, size_t{80}, samples::kNpyF4.size() - 1}) {
    write_file(path, samples::kNpyF4.substr(0, size));
    check_error(ErrorKind::io, {"cut.npy"}, [&] { load_npy(path); });
  }
  write_file(path, samples::kNpyF4);
  CHECK(same(load_npy(path), sample_grid(DType::float32)));
}

TEST_CASE("npy: magic, version and header length") {
  const auto changed = [](std::string_view sample, size_t at, std::string_view bytes) {
    std::string copy(sample);
    return copy.replace(at, bytes.size(), bytes);
  };
  for (size_t at = 0; at < 6; ++at)
    check_error(ErrorKind::io, {"not an .npy file"}, [&] { parse(changed(samples::kNpyF4, at, "x"sv)); });
  for (const std::string_view version : {"\0\0"sv, "\1\1"sv, "\4\0"sv, "\377\377"sv})
    check_error(ErrorKind::io, {"version", "1.0, 2.0 and 3.0"},
                [&] { parse(changed(samples::kNpyF4, 6, version)); });

  check_error(ErrorKind::io, {"malformed header"}, [&] { parse(changed(samples::kNpyF4, 8, "\0\0"sv)); });
  check_error(ErrorKind::io, {"truncated", "65535"},
              [&] { parse(changed(samples::kNpyF4, 8, "\377\377"sv)); });
  check_error(ErrorKind::io, {"malformed header"},
              [&] { parse(changed(samples::kNpyVersion2, 8, "\0\0\0\0"sv)); });
  check_error(ErrorKind::io, {"truncated", "2147483648"},
              [&] { parse(changed(samples::kNpyVersion2, 8, "\0\0\0\200"sv)); });
  check_error(ErrorKind::io, {"truncated", "4294967295"},
              [&] { parse(changed(samples::kNpyVersion2, 8, "\377\377\377\377"sv)); });
  // One byte short of the data, one byte into it.
  check_error(ErrorKind::io, {"trailing bytes"}, [&] { parse(changed(samples::kNpyF4, 8, "\165\0"sv)); });
  check_error(ErrorKind::io, {"malformed header"}, [&] { parse(changed(samples::kNpyF4, 8, "\167\0"sv)); });

  // A header that is there, but longer than any header has reason to be.
  std::string huge(samples::kNpyVersion2.substr(0, 12));
  huge.replace(8, 4, "\0\0\1\0"sv).append(65536, ' ');
  check_error(ErrorKind::io, {"65536", "65535"}, [&] { parse(huge); });
}

TEST_CASE("npy: every extent set to a lie") {
  CHECK(parse(npy_file(npy_header("(2, 1)"), kEightBytes)).shape() == Shape{2, 1});
  const std::pair<const char*, const char*> lies[] = {
      {"0", "trailing bytes"},
      {"-1", "an integer from 0"},
      {"3", "truncated"},
      {"2147483648", "truncated"},
      {"4611686018427387904", "overflows"},
      {"9223372036854775807", "overflows"},
      {"9223372036854775808", "an integer from 0 to 2^63 - 1"},
      {"18446744073709551615", "an integer from 0 to 2^63 - 1"},
      {"18446744073709551618", "an integer from 0 to 2^63 - 1"},
      {"02", "an integer from 0"},
      {"2.0", "malformed header"},
      {"2e0", "malformed header"},
      {"+2", "an integer from 0"},
      {"None", "an integer from 0"}};
  for (const auto& pair : lies) {
    const auto& lie = pair.first;
    const auto& word = pair.second;
    CAPTURE(lie);
    const std::string extent = lie;
    check_error(ErrorKind::io, {word},
                [&] { parse(npy_file(npy_header("(" + extent + ", 1)"), kEightBytes)); });
    check_error(ErrorKind::io, {word},
                [&] { parse(npy_file(npy_header("(1, 1, " + extent + ")"), kEightBytes)); });
  }
  // Products that wrap around to the 8 bytes that are there, or to none.
  for (const char* shape : {"(4294967296, 4294967296)", "(4611686018427387906,)", "(2, 4611686018427387904)",
                            "(4294967296, 4294967296, 0)", "(2, 9223372036854775807, 2)"})
    check_error(ErrorKind::io, {"overflows"}, [&] { parse(npy_file(npy_header(shape), kEightBytes)); });

  std::string axes = "(";
  for (int axis = 0; axis < 65; ++axis) axes += "1,";
  check_error(ErrorKind::io, {"64 axes"}, [&] { parse(npy_file(npy_header(axes + ")"), kEightBytes)); });
}

TEST_CASE("npy: the header's text") {
  const char* right[] = {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
                         "{ \"shape\" : ( 2 , ) ,\n'fortran_order':False,'descr':'<f4' , } \n ",
                         "{'descr':'<f4','fortran_order':False,'shape':(2L,1L)}",
                         "{'descr':'|V2','fortran_order':False,'shape':(2,2,)}"};
  for (const char* header : right) {
    CAPTURE(header);
    CHECK(parse(npy_file(header, kEightBytes)).num_bytes() == 8);
  }
  const std::pair<const char*, const char*> wrong[] = {
      {"", "expected '{'"},
      {"[]", "expected '{'"},
      {"{}", "lacks descr"},
      {"{'descr':'<f4','shape':(2,)}", "lacks fortran_order"},
      {"{'descr':'<f4','fortran_order':False}", "lacks shape"},
      {"{'descr':'<f4','fortran_order':False,'shape':(2,),'descr':'<f4'}", "descr twice"},
      {"{'descr':'<f4','fortran_order':False,'shape':(2,),'x':1}", "unknown key \"x\""},
      {"{'descr':'<f4','fortran_order':false,'shape':(2,)}", "expected 'False'"},
      {"{'descr':'<f4','fortran_order':1,'shape':(2,)}", "expected 'False'"},
      {"{'descr':'<f4','fortran_order':False,'shape':(2)}", "expected ','"},
      {"{'descr':'<f4','fortran_order':False,'shape':[2]}", "expected '('"},
      {"{'descr':'<f4','fortran_order':False,'shape':(,)}", "an integer"},
      {"{'descr':'<f4','fortran_order':False,'shape':(2,,)}", "an integer"},
      {"{'descr':'<f4','fortran_order':False,'shape':(2,}", "an integer"},
      {"{'descr':'<f4' 'fortran_order':False,'shape':(2,)}", "expected '}'"},
      {"{'descr' '<f4','fortran_order':False,'shape':(2,)}", "expected ':'"},
      {"{'descr':'<f4','fortran_order':False,'shape':(2,)} x", "nothing more"},
      {"{'descr':'<f4','fortran_order':False,'shape':(2,)}}", "nothing more"},
      {"{'descr':'<f4','fortran_order':False,'shape':(2,)", "the end of the header"},
      {"{'descr:", "a string without escapes"},
      {"{'de\\x73cr':'<f4'}", "a string without escapes"},
      {"{descr:'<f4'}", "expected '\"'"},
      {"{'descr':4}", "expected '\"'"}};
  for (const auto& pair : wrong) {
    const auto& header = pair.first;
    const auto& word = pair.second;
    CAPTURE(header);
    check_error(ErrorKind::io, {"<memory>", word}, [&] { parse(npy_file(header, kEightBytes)); });
  }
}

TEST_CASE("npy: any byte changed gives a tensor or a typed error") {
  for (const std::string_view sample : {samples::kNpyF4, samples::kNpyFortranF2, samples::kNpyVersion2}) {
    for (size_t at = 0; at < sample.size(); ++at) {
      for (const char value : "\0\t '(09{\\\200\377"sv) {
        std::string copy(sample);
        copy[at] = value;
        try {
          const Tensor tensor = parse(copy);  // not inside CHECK, which would catch
          CHECK(tensor.num_bytes() <= std::ssize(copy));
        } catch (const Error& error) {
          CHECK((error.kind() == ErrorKind::io || error.kind() == ErrorKind::unsupported));
        }
      }
    }
  }
}

TEST_CASE("npy: the header is the same in a program whose locale groups digits") {
  const TempFolder folder;
  const Tensor tensor = Tensor::empty({1234, 1000, 0});
  save_npy(folder.path("classic.npy"), tensor);
  const GroupingLocale locale;
  save_npy(folder.path("grouping.npy"), tensor);
  CHECK(read_file(folder.path("grouping.npy")) == read_file(folder.path("classic.npy")));
  CHECK(same(load_npy(folder.path("grouping.npy")), tensor));
  check_error(ErrorKind::io, {"shape [1234, 1000] of float32 takes 4936000 bytes"},
              [] { parse(npy_file(npy_header("(1234, 1000)"), kEightBytes)); });
}

}  // namespace solder
