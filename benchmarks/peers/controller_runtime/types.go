package main

import (
	"encoding/json"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The two kinds, as far as documents and status need them. Deep copies are what deepcopy-gen would write.

var group = schema.GroupVersion{Group: "ai-gateway.io", Version: "v1alpha1"}

type SecretRef struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

type Backend struct {
	Name       string          `json:"name"`
	Model      string          `json:"model"`
	BaseURL    string          `json:"baseUrl,omitempty"`
	APIKey     *SecretRef      `json:"apiKeySecretRef,omitempty"`
	Parameters json.RawMessage `json:"parameters,omitempty"`
}

type VirtualModelSpec struct {
	GatewayRef struct {
		Name string `json:"name"`
	} `json:"gatewayRef"`
	ModelName string    `json:"modelName,omitempty"`
	Use       bool      `json:"use"`
	Current   string    `json:"current"`
	BaseURL   string    `json:"baseUrl,omitempty"`
	ProxyKey  SecretRef `json:"proxyKeySecretRef"`
	Backends  []Backend `json:"backends"`
}

type VirtualModelStatus struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	ModelName          string             `json:"modelName,omitempty"`
	Revision           int64              `json:"revision,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

type VirtualModel struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              VirtualModelSpec   `json:"spec"`
	Status            VirtualModelStatus `json:"status,omitempty"`
}

type VirtualModelList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []VirtualModel `json:"items"`
}

type GatewayConfigSpec struct {
	App      map[string]json.RawMessage `json:"app,omitempty"`
	Delivery struct {
		Shards int `json:"shards,omitempty"`
	} `json:"delivery,omitempty"`
}

type GatewayConfigStatus struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Revision           int64              `json:"revision,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

type GatewayConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              GatewayConfigSpec   `json:"spec"`
	Status            GatewayConfigStatus `json:"status,omitempty"`
}

type GatewayConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []GatewayConfig `json:"items"`
}

func (in *VirtualModel) DeepCopyObject() runtime.Object {
	out := *in
	out.ObjectMeta = *in.ObjectMeta.DeepCopy()
	out.Spec.Backends = slices.Clone(in.Spec.Backends)
	for i := range out.Spec.Backends {
		backend := &out.Spec.Backends[i]
		backend.Parameters = slices.Clone(backend.Parameters)
		if backend.APIKey != nil {
			copied := *backend.APIKey
			backend.APIKey = &copied
		}
	}
	out.Status.Conditions = slices.Clone(in.Status.Conditions)
	return &out
}

func (in *VirtualModelList) DeepCopyObject() runtime.Object {
	out := *in
	out.Items = make([]VirtualModel, len(in.Items))
	for i := range in.Items {
		out.Items[i] = *in.Items[i].DeepCopyObject().(*VirtualModel)
	}
	return &out
}

func (in *GatewayConfig) DeepCopyObject() runtime.Object {
	out := *in
	out.ObjectMeta = *in.ObjectMeta.DeepCopy()
	out.Spec.App = maps.Clone(in.Spec.App)
	out.Status.Conditions = slices.Clone(in.Status.Conditions)
	return &out
}

func (in *GatewayConfigList) DeepCopyObject() runtime.Object {
	out := *in
	out.Items = make([]GatewayConfig, len(in.Items))
	for i := range in.Items {
		out.Items[i] = *in.Items[i].DeepCopyObject().(*GatewayConfig)
	}
	return &out
}

func addTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(group, &VirtualModel{}, &VirtualModelList{}, &GatewayConfig{}, &GatewayConfigList{})
	metav1.AddToGroupVersion(scheme, group)
	return nil
}
