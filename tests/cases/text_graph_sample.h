#pragma once
// Texts in solder-run's format: seeds of its fuzzer and mutations, and a test of its parser.

#include <string>

namespace samples {

inline const std::string kEverything = R"(# every form of every line
input x 2,8,9,7
input half 2,8,9,7 float16 layout = channels_last  # to the end of the line
input scale scalar
parameter 0.weight 6, 4 ,3,2
parameter /a-1/bias:0 6

a=conv2d x 0.weight /a-1/bias:0 stride=2,1 padding = 1, 0,2 , 1 dilation=1 groups=2
b = leaky_relu a slope=0.25
c = elu b
d = clip c low=-1 high=6
e = sub 1 d
f = pow e +2e0
g = add f f
h = cast half dtype=float32
i = cast h dtype=float32
k = mul x h
l = mul scale k
m = slice l axis=-1 start=1 stop=-1 step=2
n = slice m axis=1 step=-1
output g
output n layout=nchw
output turned n layout=channels_last
)";

// Every call of the builder that is no elementwise function, on small tensors.
inline const std::string kBuilderCalls = R"(input x 1,4,6,6
parameter w 4,2,2,2
parameter c 4
parameter v 6
a = conv_transpose2d x w c stride=2 padding=1,0,0,1 output_padding=1,0 dilation=1 groups=2
b = reshape x shape=0,-1,36
d = flatten b from_axis=1
e = unsqueeze d axes=0,-1
f = squeeze e axes=0
f2 = squeeze f
g = permute x axes=0,-1,1,2
h = expand g shape=2,-1,4,-1
i = tile f2 repeats=2,1
j = per_channel c
k = add x j
l = concat x k x axis=1
m = gather l axis=-3 indices=0,11,-1
n = max_pool2d m kernel=3 stride=2 padding=1 dilation=1 ceil_mode=1
o = avg_pool2d n kernel=2,1 stride=1 padding=1,0,1,0 ceil_mode=0 count_include_pad=0
p = global_avg_pool o
q = global_max_pool o
r = mean o axes=2,-1 keep_dims=1
s = sum o
t = reduce_max o axes=0
u = reduce_min o keep_dims=1
a2 = softmax o axis=1
b2 = log_softmax a2
c2 = resize b2 scale=2 mode=nearest coordinates=asymmetric rounding=ceil
d2 = resize c2 size=7,5 mode=bilinear coordinates=align_corners
d3 = resize c2 size=7,0 scale=0,1.5
e2 = pad d2 before=0,0,1,2 after=0,-1,2,1 mode=edge
f3 = pad x before=0,0,1,1 after=0,0,1,1 value=-1.5
g2 = space_to_depth x block=2
h2 = depth_to_space g2 block=2 crd=1
i2 = batch_norm h2 c c c c eps=0.001
j2 = layer_norm i2 v v num_axes=1 eps=0.1
k2 = group_norm j2 c c groups=2
l2 = lrn k2 size=3 alpha=0.1 beta=0.5 bias=2
m2 = greater x l2
n2 = greater_equal 0 x
o2 = where m2 n2 x
parameter wide 5,6
parameter five 5
p2 = linear x wide five
parameter back 5,2
q2 = matmul p2 back
output a
output h
output i
output p
output q
output r
output s
output t
output u
output d3
output e2
output f3
output o2
output q2
)";

// Four results of 2^62 bytes.
inline const std::string kOuterProducts = R"(input a 1073741824,1
input b 1073741824
y = mul a b
z = add a b
u = sub a b
v = div a b
output y
output z
output u
output v
)";

}  // namespace samples
