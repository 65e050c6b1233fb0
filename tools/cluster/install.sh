#!/usr/bin/env bash
# Brings into the cluster of KUBECONFIG what the service and its tests need, in the versions below; what is there already
# is left as it is. KUBEFLOW=1 adds Kubeflow Pipelines.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
github=https://github.com
CERT_MANAGER=v1.17.0 KSERVE=v0.20.0 ENVOY_GATEWAY=v1.8.1 KEDA=2.21.0 PROMETHEUS_OPERATOR=v0.89.0 PIPELINES=2.17.0

[ -n "${KUBECONFIG:-}" ] || { echo "KUBECONFIG names no cluster: export it, or make cluster" >&2; exit 1; }
kubectl get --raw /readyz >/dev/null || { echo "the cluster of $KUBECONFIG does not answer" >&2; exit 1; }

has() { kubectl get customresourcedefinition "$1" >/dev/null 2>&1; }
skip() { echo "$1: there already, left as it is"; }
apply() { kubectl apply --server-side --force-conflicts "$@" >/dev/null; }
rollout() { kubectl -n "$1" rollout status "deployment/$2" --timeout=300s; }

# KServe makes its webhooks' certificates by cert-manager; a KServe that is there has its own way.
if has inferenceservices.serving.kserve.io; then skip KServe; else
  if has certificates.cert-manager.io; then skip cert-manager; else
    echo "cert-manager $CERT_MANAGER"
    apply -f $github/cert-manager/cert-manager/releases/download/$CERT_MANAGER/cert-manager.yaml
    for part in cert-manager cert-manager-cainjector cert-manager-webhook; do rollout cert-manager $part; done
  fi
  echo "KServe $KSERVE"
  apply -f $github/kserve/kserve/releases/download/$KSERVE/kserve.yaml
  rollout kserve kserve-controller-manager
fi

if kubectl -n kserve get gateways.gateway.networking.k8s.io kserve-ingress-gateway >/dev/null 2>&1; then skip "Gateway kserve/kserve-ingress-gateway"; else
  if has gatewayclasses.gateway.networking.k8s.io && [ -n "$(kubectl get gatewayclasses -o name)" ]; then
    echo "this cluster has a GatewayClass, and no Gateway kserve/kserve-ingress-gateway: make one of your class" >&2; exit 1
  fi
  echo "Gateway API by Envoy Gateway $ENVOY_GATEWAY"
  apply -f $github/envoyproxy/gateway/releases/download/$ENVOY_GATEWAY/install.yaml
  rollout envoy-gateway-system envoy-gateway
  apply -f "$here/gateway.yaml"
fi
# KServe then makes HTTPRoutes instead of Ingresses.
ingress=$(kubectl -n kserve get configmap inferenceservice-config -o jsonpath='{.data.ingress}')
if grep -q '"enableGatewayApi": *true' <<<"$ingress"; then skip "KServe's HTTPRoutes"; else
  patch=$(python3 -c 'import json, sys
ingress = json.loads(sys.argv[1]) | {"enableGatewayApi": True, "kserveIngressGateway": "kserve/kserve-ingress-gateway"}
print(json.dumps({"data": {"ingress": json.dumps(ingress)}}))' "$ingress")
  kubectl -n kserve patch configmap inferenceservice-config --type=merge -p "$patch" >/dev/null
  kubectl -n kserve rollout restart deployment/kserve-controller-manager >/dev/null
  rollout kserve kserve-controller-manager
fi
kubectl -n kserve wait --for=condition=Programmed gateways.gateway.networking.k8s.io/kserve-ingress-gateway --timeout=180s

if has scaledobjects.keda.sh; then skip KEDA; else
  echo "KEDA $KEDA"
  apply -f $github/kedacore/keda/releases/download/v$KEDA/keda-$KEDA.yaml
  for part in keda-operator keda-metrics-apiserver; do rollout keda $part; done
fi

# A Prometheus that runs beside the cluster is named by PROMETHEUS, http://host:port.
if [ -n "${PROMETHEUS:-}" ]; then skip "Prometheus ($PROMETHEUS)"; elif has prometheuses.monitoring.coreos.com; then skip "Prometheus's operator"; else
  echo "Prometheus by its operator $PROMETHEUS_OPERATOR"
  apply -f $github/prometheus-operator/prometheus-operator/releases/download/$PROMETHEUS_OPERATOR/bundle.yaml
  rollout default prometheus-operator
  apply -f "$here/prometheus.yaml"
  kubectl -n monitoring wait --for=condition=Available prometheus/prometheus --timeout=300s
fi

if [ -n "${KUBEFLOW:-}" ]; then
  if has workflows.argoproj.io; then skip "Kubeflow Pipelines"; else
    echo "Kubeflow Pipelines $PIPELINES"
    manifests=github.com/kubeflow/pipelines/manifests/kustomize
    apply -k "$manifests/cluster-scoped-resources?ref=$PIPELINES"
    kubectl wait --for=condition=established --timeout=60s crd/applications.app.k8s.io
    apply -k "$manifests/env/platform-agnostic?ref=$PIPELINES"
    rollout kubeflow ml-pipeline
  fi
fi
