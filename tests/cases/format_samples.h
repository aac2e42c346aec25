#pragma once
// Made by tests/tools/make_format_samples.py with numpy 2.4.6, ml_dtypes 0.6.0, safetensors 0.8.0.
// clang-format off

#include <string_view>

namespace samples {

using std::string_view_literals::operator""sv;

inline constexpr std::string_view kNpyF4 =
    "\223NUMPY\001\000v\000{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }                   "
    "                                       \012\000\000\000\277\000\000\200\276\000\000\000\000\000\000"
    "\200>\000\000\000\077\000\000@\077"sv;

inline constexpr std::string_view kNpyF2 =
    "\223NUMPY\001\000v\000{'descr': '<f2', 'fortran_order': False, 'shape': (2, 3), }                   "
    "                                       \012\000\270\000\264\000\000\0004\0008\000:"sv;

inline constexpr std::string_view kNpyBf16 =
    "\223NUMPY\001\000v\000{'descr': '<V2', 'fortran_order': False, 'shape': (2, 3), }                   "
    "                                       \012\000\277\200\276\000\000\200>\000\077@\077"sv;

inline constexpr std::string_view kNpyScalar =
    "\223NUMPY\001\000v\000{'descr': '<f4', 'fortran_order': False, 'shape': (), }                       "
    "                                       \012\000\000 @"sv;

inline constexpr std::string_view kNpyVector =
    "\223NUMPY\001\000v\000{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }                     "
    "                                       \012\000\000\200\077\000\000\000@\000\000@@"sv;

inline constexpr std::string_view kNpyEmpty =
    "\223NUMPY\001\000v\000{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4), }                   "
    "                                       \012"sv;

inline constexpr std::string_view kNpyFortran =
    "\223NUMPY\001\000v\000{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3, 4), }                 "
    "                                       \012\000\000\000\000\000\000@A\000\000\200@\000\000\200A\000"
    "\000\000A\000\000\240A\000\000\200\077\000\000PA\000\000\240@\000\000\210A\000\000\020A\000\000\250A"
    "\000\000\000@\000\000`A\000\000\300@\000\000\220A\000\000 A\000\000\260A\000\000@@\000\000pA\000\000"
    "\340@\000\000\230A\000\0000A\000\000\270A"sv;

inline constexpr std::string_view kNpyFortranF2 =
    "\223NUMPY\001\000v\000{'descr': '<f2', 'fortran_order': True, 'shape': (2, 3, 4), }                 "
    "                                       \012\000\000\000J\000D\000L\000H\000M\000<\200J\000E@L\200H@M"
    "\000@\000K\000F\200L\000I\200M\000B\200K\000G\300L\200I\300M"sv;

inline constexpr std::string_view kNpyVersion2 =
    "\223NUMPY\002\000t\000\000\000{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }           "
    "                                             \012\000\000\000\277\000\000\200\276\000\000\000\000"
    "\000\000\200>\000\000\000\077\000\000@\077"sv;

inline constexpr std::string_view kNpyVersion3 =
    "\223NUMPY\003\000t\000\000\000{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }           "
    "                                             \012\000\000\000\277\000\000\200\276\000\000\000\000"
    "\000\000\200>\000\000\000\077\000\000@\077"sv;

inline constexpr std::string_view kNpyF8 =
    "\223NUMPY\001\000v\000{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }                   "
    "                                       \012\000\000\000\000\000\000\340\277\000\000\000\000\000\000"
    "\320\277\000\000\000\000\000\000\000\000\000\000\000\000\000\000\320\077\000\000\000\000\000\000\340"
    "\077\000\000\000\000\000\000\350\077"sv;

inline constexpr std::string_view kNpyI8 =
    "\223NUMPY\001\000v\000{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }                     "
    "                                       \012\000\000\000\000\000\000\000\000\001\000\000\000\000\000"
    "\000\000\002\000\000\000\000\000\000\000"sv;

inline constexpr std::string_view kNpyBigEndian =
    "\223NUMPY\001\000v\000{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }                   "
    "                                       \012\277\000\000\000\276\200\000\000\000\000\000\000>\200\000"
    "\000\077\000\000\000\077@\000\000"sv;

inline constexpr std::string_view kNpyStructured =
    "\223NUMPY\001\000v\000{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }            "
    "                                       \012\000\000\000\000\000\000\000\000"sv;

inline constexpr std::string_view kNpyObject =
    "\223NUMPY\001\000v\000{'descr': '|O', 'fortran_order': False, 'shape': (1,), }                      "
    "                                       \012\200\004\225\212\000\000\000\000\000\000\000\214\026numpy"
    "._core.multiarray\224\214\014_reconstruct\224\223\224\214\005numpy\224\214\007ndarray\224\223\224K"
    "\000\205\224C\001b\224\207\224R\224(K\001K\001\205\224h\003\214\005dtype\224\223\224\214\002O8\224"
    "\211\210\207\224R\224(K\003\214\001|\224NNNJ\377\377\377\377J\377\377\377\377K\077t\224b\211]\224Nat"
    "\224b."sv;

inline constexpr std::string_view kSafetensorsPlain =
    "\260\001\000\000\000\000\000\000{\042a.bias\042:{\042dtype\042:\042F32\042,\042shape\042:[3],\042dat"
    "a_offsets\042:[0,12]},\042c.weight\042:{\042dtype\042:\042F32\042,\042shape\042:[2,3],\042data_offse"
    "ts\042:[12,36]},\042empty\042:{\042dtype\042:\042F32\042,\042shape\042:[2,0],\042data_offsets\042:[3"
    "6,36]},\042scalar\042:{\042dtype\042:\042F32\042,\042shape\042:[],\042data_offsets\042:[36,40]},\042"
    "b.brain\042:{\042dtype\042:\042BF16\042,\042shape\042:[2,3],\042data_offsets\042:[40,52]},\042a.half"
    "\042:{\042dtype\042:\042F16\042,\042shape\042:[2,3],\042data_offsets\042:[52,64]},\042z.half\042:{"
    "\042dtype\042:\042F16\042,\042shape\042:[1],\042data_offsets\042:[64,66]}}  \000\000\200\077\000\000"
    "\000@\000\000@@\000\000\000\277\000\000\200\276\000\000\000\000\000\000\200>\000\000\000\077\000\000"
    "@\077\000\000 @\000\277\200\276\000\000\200>\000\077@\077\000\270\000\264\000\000\0004\0008\000:\000"
    "D"sv;

inline constexpr std::string_view kSafetensorsMixed =
    "@\001\000\000\000\000\000\000{\042__metadata__\042:{\042format\042:\042np\042,\042note\042:\042a "
    "\134\042quoted\134\042 \134\134 note\134n\042},\042bn.num_batches_tracked\042:{\042dtype\042:\042I64"
    "\042,\042shape\042:[],\042data_offsets\042:[0,8]},\042double\042:{\042dtype\042:\042F64\042,\042shap"
    "e\042:[1],\042data_offsets\042:[8,16]},\042bn.weight\042:{\042dtype\042:\042F32\042,\042shape\042:[1"
    "],\042data_offsets\042:[16,20]},\042mask\042:{\042dtype\042:\042BOOL\042,\042shape\042:[3],\042data_"
    "offsets\042:[20,23]}}  \007\000\000\000\000\000\000\000\000\000\000\000\000\000\340\077\000\000\300"
    "\077\001\000\001"sv;

inline constexpr std::string_view kSafetensorsNames =
    "\010\001\000\000\000\000\000\000{\042\042:{\042dtype\042:\042F32\042,\042shape\042:[1],\042data_offs"
    "ets\042:[0,4]},\042ctl\134u0001\134u001f\042:{\042dtype\042:\042F32\042,\042shape\042:[1],\042data_o"
    "ffsets\042:[4,8]},\042h\303\251\344\270\226\360\237\230\200\042:{\042dtype\042:\042F32\042,\042shape"
    "\042:[1],\042data_offsets\042:[8,12]},\042q\134\042b\134\134s/n\134nt\134tb\134bf\134fr\134r\042:{"
    "\042dtype\042:\042F32\042,\042shape\042:[1],\042data_offsets\042:[12,16]}}    \000\000\000\000\000"
    "\000\000@\000\000@@\000\000\200\077"sv;

inline constexpr std::string_view kSafetensorsNothing =
    "\010\000\000\000\000\000\000\000{}      "sv;

}  // namespace samples
