#include "tests/support/head_scalars.h"

#include <google/protobuf/message.h>

#include <cstdint>

namespace isthmus::testing {

using google::protobuf::FieldDescriptor;

std::vector<const FieldDescriptor*> HeadScalarFields() {
  std::vector<const FieldDescriptor*> fields;
  const auto& descriptor = *proto::HeadRecord::descriptor();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor* field = descriptor.field(i);
    if (!field->is_repeated() && field->message_type() == nullptr) fields.push_back(field);
  }
  return fields;
}

double ScalarOf(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE ? field.number() + 0.25 : 1000 + field.number();
}

proto::HeadRecord AllHeadScalars() {
  proto::HeadRecord scalars;
  const auto& reflection = *scalars.GetReflection();
  for (const FieldDescriptor* field : HeadScalarFields()) {
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
      reflection.SetDouble(&scalars, field, ScalarOf(*field));
    } else {
      reflection.SetInt64(&scalars, field, static_cast<int64_t>(ScalarOf(*field)));
    }
  }
  return scalars;
}

}  // namespace isthmus::testing
