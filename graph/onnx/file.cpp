#include "graph/onnx/file.h"

#include <algorithm>
#include <set>

#include "runtime/check.h"
#include "runtime/text_reader.h"

namespace solder {
namespace {

// What parsed pieces may take beside the file's own size.
constexpr int64_t kSpareBytes = 64 << 10;

}  // namespace

OnnxFile::OnnxFile(const ByteSource& source, std::string path) : window_(source), path_(std::move(path)) {
  WireReader model(window_, {0, source.num_bytes()});
  std::optional<ByteRange> graph;
  bool has_functions = false;
  while (model.next()) {
    if (model.field() == 7) {
      SOLDER_REQUIRE(!graph, io, name(), ": holds two graphs");
      graph = model.bytes();
    }
    if (model.field() == 8) read_opset(model.bytes());
    if (model.field() == 14) read_metadata(model.bytes());
    has_functions |= model.field() == 25;
  }
  SOLDER_REQUIRE(graph, io, name(), ": holds no graph: it is truncated or no ONNX file");
  SOLDER_REQUIRE(has_opset_, io, name(), ": does not say which opset it is of: it is truncated");
  SOLDER_REQUIRE(opset_ == 0 || opset_ >= 7, unsupported, name(), ": is of opset ", opset_,
                 "; solder reads 7 and newer");
  SOLDER_REQUIRE(!has_functions, unsupported, name(),
                 ": has functions of its own; export it with them inlined (onnx.inliner does that)");
  graph_ = read_graph(*graph);
  SOLDER_REQUIRE(!graph_.outputs.empty(), io, name(), ": its graph has no outputs: it is truncated");
}

void OnnxFile::read_metadata(ByteRange message) {
  WireReader fields(window_, message);
  std::string key, value;
  while (fields.next()) {
    if (fields.field() == 1) key = fields.text();
    if (fields.field() == 2) value = fields.text();
  }
  charge(std::ssize(key) + std::ssize(value) + static_cast<int64_t>(2 * sizeof(std::string)));
  metadata_.insert_or_assign(std::move(key), std::move(value));
}

int64_t OnnxFile::num_bytes() const {
  int64_t bytes = window_.source().num_bytes();
  for (const auto& [location, source] : external_)
    if (source != nullptr) bytes += source->num_bytes();
  return bytes;
}

void OnnxFile::charge(int64_t bytes) {
  charged_bytes_ += bytes;
  SOLDER_REQUIRE(charged_bytes_ <= window_.source().num_bytes() + kSpareBytes, io, name(),
                 ": its graph has more pieces than a file of ", window_.source().num_bytes(),
                 " bytes has use for");
}

void OnnxFile::read_opset(ByteRange message) {
  WireReader fields(window_, message);
  std::string domain;
  int64_t version = 0;
  while (fields.next()) {
    if (fields.field() == 1) domain = fields.text();
    if (fields.field() == 2) version = fields.integer();
  }
  has_opset_ = true;
  if (!domain.empty() && domain != "ai.onnx") return;  // nodes of it are refused where they stand
  SOLDER_REQUIRE(version > 0 && version < 1 << 16, io, name(), ": claims opset ", version);
  SOLDER_REQUIRE(opset_ == 0 || opset_ == version, io, name(), ": claims opsets ", opset_, " and ", version);
  opset_ = version;
}

std::string OnnxFile::name_of_tensor(ByteRange message) {
  WireReader fields(window_, message);
  std::string tensor_name;
  while (fields.next())
    if (fields.field() == 8) tensor_name = fields.text();
  SOLDER_REQUIRE(!tensor_name.empty(), io, name(), ": byte ", message.begin, ": an initializer has no name");
  charge(std::ssize(tensor_name) + static_cast<int64_t>(sizeof(ByteRange)));
  return tensor_name;
}

OnnxGraph OnnxFile::read_graph(ByteRange message) {
  OnnxGraph graph;
  WireReader fields(window_, message);
  while (fields.next()) {
    switch (fields.field()) {
      case 1:
        charge(sizeof(ByteRange));
        graph.nodes.push_back(fields.bytes());
        break;
      case 5: {
        std::string tensor_name = name_of_tensor(fields.bytes());
        graph.initializers.emplace_back(std::move(tensor_name), fields.bytes());
        break;
      }
      case 11: graph.inputs.push_back(read_declared(fields.bytes())); break;
      case 12: graph.outputs.push_back(read_declared(fields.bytes())); break;
      case 15: {
        WireReader sparse(window_, fields.bytes());
        while (sparse.next())
          if (sparse.field() == 1) graph.sparse.push_back(name_of_tensor(sparse.bytes()));
        break;
      }
      default: break;  // names, documentation, shapes that are worked out again
    }
  }
  return graph;
}

OnnxDeclared OnnxFile::read_declared(ByteRange message) {
  OnnxDeclared declared;
  WireReader fields(window_, message);
  while (fields.next()) {
    if (fields.field() == 1) declared.name = fields.text();
    if (fields.field() == 2) read_type(fields.bytes(), &declared);
  }
  SOLDER_REQUIRE(!declared.name.empty(), io, name(), ": byte ", message.begin,
                 ": an input or output has no name");
  charge(static_cast<int64_t>(sizeof(OnnxDeclared)));
  return declared;
}

void OnnxFile::read_type(ByteRange message, OnnxDeclared* declared) {
  WireReader kinds(window_, message);
  while (kinds.next()) {
    if (kinds.field() != 1) continue;  // sequences, maps and such
    declared->is_tensor = true;
    WireReader tensor(window_, kinds.bytes());
    while (tensor.next()) {
      if (tensor.field() == 1) declared->type = static_cast<OnnxType>(tensor.integer());
      if (tensor.field() != 2) continue;
      declared->has_shape = true;
      WireReader extents(window_, tensor.bytes());
      while (extents.next()) {
        if (extents.field() != 1) continue;
        OnnxExtent extent;
        WireReader parts(window_, extents.bytes());
        while (parts.next()) {
          if (parts.field() == 1) extent.value = std::max<int64_t>(parts.integer(), -1);
          if (parts.field() == 2) extent.name = parts.text();
        }
        SOLDER_REQUIRE(declared->shape.size() < kMaxFileRank, io, name(), ": ", quote_name(declared->name),
                       " has more than ", kMaxFileRank, " axes");
        charge(sizeof(OnnxExtent));
        declared->shape.push_back(std::move(extent));
      }
    }
  }
}

OnnxNode OnnxFile::read_node(ByteRange message) {
  OnnxNode node;
  WireReader fields(window_, message);
  int64_t num_pieces = 0;
  while (fields.next()) {
    SOLDER_REQUIRE((num_pieces += sizeof(OnnxAttribute)) <= window_.source().num_bytes() + kSpareBytes, io,
                   name(), ": byte ", message.begin, ": a node has more pieces than the file has use for");
    switch (fields.field()) {
      case 1: node.inputs.push_back(fields.text()); break;
      case 2: node.outputs.push_back(fields.text()); break;
      case 3: node.name = fields.text(); break;
      case 4: node.op = fields.text(); break;
      case 5: node.attributes.push_back(read_attribute(fields.bytes())); break;
      case 7: node.domain = fields.text(); break;
      default: break;
    }
  }
  SOLDER_REQUIRE(!node.op.empty(), io, name(), ": byte ", message.begin,
                 ": a node has no operator: it is truncated");
  std::set<std::string> names;
  for (const OnnxAttribute& attribute : node.attributes)
    SOLDER_REQUIRE(names.insert(attribute.name).second, io, name(), ": node ", quote_name(node.name), " (",
                   node.op, ") has attribute ", quote_name(attribute.name), " twice");
  return node;
}

OnnxAttribute OnnxFile::read_attribute(ByteRange message) {
  OnnxAttribute attribute;
  WireReader fields(window_, message);
  int kind = 0;
  while (fields.next()) {
    switch (fields.field()) {
      case 1: attribute.name = fields.text(); break;
      case 2: attribute.real = fields.real(), kind = 1; break;
      case 3: attribute.integer = fields.integer(), kind = 2; break;
      case 4: attribute.text = fields.text(), kind = 3; break;
      case 5: attribute.message = fields.bytes(), kind = 4; break;
      case 6: attribute.message = fields.bytes(), kind = 5; break;
      case 7: {
        for (ByteRange at = fields.fixed_elements(4); at.begin < at.end; at.begin += 4) {
          uint32_t bits = 0;
          for (int i = 0; i < 4; ++i) bits |= uint32_t{window_.at(at.begin + i)} << (8 * i);
          attribute.reals.push_back(std::bit_cast<float>(bits));
        }
        kind = 6;
        break;
      }
      case 8:
        fields.each_integer([&](int64_t each) {
          SOLDER_REQUIRE(attribute.integers.size() < size_t{1} << 16, unsupported, name(), ": attribute ",
                         quote_name(attribute.name), " has more than 2^16 elements");
          attribute.integers.push_back(each);
        });
        kind = 7;
        break;
      case 20: attribute.kind = static_cast<int>(fields.integer()); break;
      case 13: break;       // documentation
      default: kind = 100;  // strings, sparse tensors, types, references to a function's attributes
    }
  }
  // Empty lists and zeros may be left out: what the type says stands.
  if (attribute.kind == 0) attribute.kind = kind;
  SOLDER_REQUIRE(kind == 0 || kind == 100 || kind == attribute.kind, io, name(), ": attribute ",
                 quote_name(attribute.name), " says it is of type ", attribute.kind, " and holds type ",
                 kind);
  return attribute;
}

}  // namespace solder
