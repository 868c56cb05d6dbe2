# The first commands in the namespaces of an isolated instance, before its supervisor: the places
# that docker writes to are its own. `sh isolated.sh DISK GIB COMMAND…`; DISK is a folder.
set -eu
disk="$1" gib="$2"
shift 2
# Sockets, locks and process ids: the machine's own docker daemon is out of sight.
mount -t tmpfs -o mode=755,size=512m tmpfs /run
mkdir /run/lock
# What docker and containerd write outside of the folders that they are told.
for folder in /etc/docker /opt/containerd; do
  mkdir -p "$folder"
  mount -t tmpfs -o mode=755,size=16m tmpfs "$folder"
done
# Images and containers lie on a disk of the launch's size, which ends with the namespace.
truncate -s "${gib}G" "$disk.img"
mkfs.ext4 -q -F -m 0 -E lazy_itable_init=1,lazy_journal_init=1 "$disk.img"
mkdir -p "$disk"
mount -o loop "$disk.img" "$disk"
exec "$@"
