# Turns CUDA's launch syntax and unsized shared arrays into plain C++ for the emulator (sed -z -E -f: a launch may have
# several lines), and launch bounds into a check at the start of the kernel.
s/([A-Za-z_][A-Za-z0-9_]*(<[^<>;]*>)?)\s*<<<([^;]*)>>>\s*\(/emu_launch(emu_config(\3), \1)(/g
s/__launch_bounds__\(([^()]*)\)(\s*[A-Za-z_0-9]+\([^()]*\) \{)/\2 emu_launch_bounds(\1);/g
s/extern __shared__ (__align__\([0-9]+\) )?([A-Za-z_0-9: ]+) ([A-Za-z_0-9]+)\[\];/\2 *\3 = (\2 *)emu_dynamic_shared();/g
