#!/usr/bin/env bash
# A cluster of one's own on one Linux machine, by kind, with all that the cluster's tests need. Safe to run again.
# Afterwards the exports that it prints lead there. `kind delete cluster --name prometheus-mini` takes it away.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
name=prometheus-mini node_image=kindest/node:v1.34.0
config=$here/../../build/cluster.kubeconfig
for program in docker kind kubectl; do
  command -v "$program" >/dev/null || { echo "make cluster needs $program: install it, or use a cluster that you have (make cluster-install)" >&2; exit 1; }
done
[ "$(uname)" = Linux ] || { echo "make cluster needs Linux, where the addresses of kind's node can be reached" >&2; exit 1; }
mkdir -p "${config%/*}"
kind get clusters 2>/dev/null | grep -qx "$name" || kind create cluster --name "$name" --image "$node_image" --wait 180s
kind get kubeconfig --name "$name" >"$config"
export KUBECONFIG=$config
# The node's own address serves this machine and the cluster alike; routes through it lead to pods and Services.
address=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$name-control-plane")
kubectl config set-cluster "kind-$name" --server="https://$address:6443" >/dev/null
sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
for range in 10.96.0.0/16 10.244.0.0/16; do $sudo ip route replace "$range" via "$address"; done
"$here/install.sh"
echo "export KUBECONFIG=$config LOAD='kind load docker-image --name $name'"
echo "export PROMETHEUS=http://$(kubectl -n monitoring get service prometheus -o jsonpath='{.spec.clusterIP}'):9090"
