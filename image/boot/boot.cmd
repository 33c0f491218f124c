# What U-Boot runs on every board: it boots the slot that is on trial, once, or the good one. image/build makes boot.scr of it.
# All numbers are hexadecimal. The boot state is in two sectors, 0x7fe and 0x7fd, so that a power cut while one is written leaves the other.

# What is read here is done with before the initrd takes its place.
setenv sector ${ramdisk_addr_r}
setenv good a
setenv try
setenv tries 0
${devtype} dev ${devnum}
${devtype} read ${sector} 7fe 1
if env import -c ${sector} 200 good try tries; then true; else
  ${devtype} read ${sector} 7fd 1
  env import -c ${sector} 200 good try tries
fi

setenv order "a b"
if test "${good}" = b; then setenv order "b a"; fi
# The try is counted before it is made: whatever becomes of it, the next start is of the good slot. Where it cannot be counted, it is not made.
if test -n "${try}" && test -n "${tries}" && test "${tries}" != 0; then
  setenv tries 0
  if env export -c -s 200 ${sector} good try tries && ${devtype} write ${sector} 7fe 1 && ${devtype} write ${sector} 7fd 1; then
    if test "${try}" = b; then setenv order "b a"; else setenv order "a b"; fi
  fi
fi

# A kernel is unpacked high in memory, where the firmware of a small Pi may have left the device tree.
if test -n "${fdt_addr_r}"; then
  fdt move ${fdt_addr} ${fdt_addr_r} && setenv fdt_addr ${fdt_addr_r}
fi
# The Pi's firmware has read cmdline.txt and hands it on; elsewhere nobody has.
fdt addr ${fdt_addr}
if fdt get value arguments /chosen bootargs; then true; else
  mw.b ${sector} 0 1000
  load ${devtype} ${devnum}:1 ${sector} cmdline.txt && setexpr.s arguments *${sector}
fi

for slot in ${order}; do
  if test ${slot} = a; then setenv number 2; else setenv number 3; fi
  part start ${devtype} ${devnum} ${number} from
  setexpr at ${from} + 40000
  if ${devtype} read ${sector} ${at} 1 && env import -c ${sector} 200 kernel_at kernel_len initrd_at initrd_len version; then
    echo "slot ${slot}: tillmesh ${version}"
    setexpr kernel_at ${from} + ${kernel_at}
    setexpr initrd_at ${from} + ${initrd_at}
    ${devtype} read ${kernel_addr_r} ${kernel_at} ${kernel_len}
    ${devtype} read ${ramdisk_addr_r} ${initrd_at} ${initrd_len}
    setenv bootargs "${arguments} tillmesh.slot=${slot}"
    # Comes back where the sum of kernel or initrd does not hold.
    bootm ${kernel_addr_r} ${ramdisk_addr_r} ${fdt_addr}
  fi
  echo "slot ${slot} cannot be booted"
done
echo "no slot can be booted; starting again in 10 s"
sleep a
reset
