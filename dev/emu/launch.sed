# Turns CUDA's launch syntax and unsized shared arrays into plain C++ for the emulator (sed -E -f).
s/([A-Za-z_][A-Za-z0-9_]*(<[^<>;]*>)?) *<<<(.*)>>> *\(/emu_launch(emu_config(\3), \1)(/
s/extern __shared__ (__align__\([0-9]+\) )?([A-Za-z_0-9: ]+) ([A-Za-z_0-9]+)\[\];/\2 *\3 = (\2 *)emu_dynamic_shared();/
